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

    listing = {"nftables": [chain("filter", hook="forward", policy="drop")]}

    def nft(*arguments: str) -> str:
        return json.dumps(listing) if "chains" in arguments else rules["list"]

    monkeypatch.setattr(doctor, "_nft", nft)
    said = firewall()
    assert said.startswith("chain FORWARD of table ip filter drops pods' traffic: ")
    assert "nft insert rule ip filter FORWARD iifname 'sv*' accept" in said
    rules["list"] = 'chain FORWARD { iifname "sv*" counter accept }'
    assert not firewall()
    monkeypatch.setattr(doctor, "_nft", lambda *arguments: "")
    assert not firewall()
