"""What keeps pods from reaching each other is found, and nothing of it is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sampan.cli import doctor
from sampan.cli.doctor import dropping_chains, firewall


def chain(table: str, **more: str) -> dict[str, Any]:
    return {"chain": {"family": "ip", "table": table, "name": "FORWARD", "handle": 1, **more}}


def test_chains_that_drop_what_is_forwarded() -> None:
    drops = {"hook": "forward", "policy": "drop"}
    listing = {
        "nftables": [
            {"metainfo": {"version": "1.0.6"}},
            chain("nat"),
            chain("open", hook="forward", policy="accept"),
            chain("input", hook="input", policy="drop"),
            chain("sampan-x.policy", **drops),
            chain("filter", **drops),
        ]
    }
    assert [*dropping_chains(listing)] == [("ip", "filter", "FORWARD")]
    assert not [*dropping_chains({})]


def test_what_to_do_about_them_is_said_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {"list": ""}
    listing = json.dumps({"nftables": [chain("filter", hook="forward", policy="drop")]})
    monkeypatch.setattr(doctor, "_rules", lambda *chain: rules["list"])
    monkeypatch.setattr(doctor, "look_at_chains", lambda: Said(listing))
    said = firewall()
    assert said.startswith("chain FORWARD of table ip filter drops pods' traffic: ")
    assert "nft insert rule ip filter FORWARD iifname 'sv*' accept" in said
    rules["list"] = 'chain FORWARD { iifname "sv*" counter accept }'
    assert not firewall()
    monkeypatch.setattr(doctor, "look_at_chains", lambda: None)
    assert not firewall()


class Said:
    """A process that has printed this."""

    def __init__(self, text: str) -> None:
        self._text = text

    def communicate(self) -> tuple[str, None]:
        return self._text, None
