"""What informers keep: nothing nobody reads, and equal parts once."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.client import sharing
from sampan.client.sharing import Sharing

Object = dict[str, Any]


def pod(name: str, image: str = "i") -> Object:
    containers = [{"name": "c", "image": image, "terminationMessagePath": "/dev/termination-log"}]
    return {
        "kind": "Pod",
        "metadata": {"name": name, "managedFields": [{"manager": "m"}]},
        "spec": {"nodeName": name, "containers": containers},
    }


def test_pods_of_one_template_share_it() -> None:
    share = Sharing()
    given = pod("a")
    one, two, other = share.slim(given), share.slim(pod("b")), share.slim(pod("c", "j"))
    assert one["spec"]["containers"] is two["spec"]["containers"]
    assert other["spec"]["containers"] == pod("c", "j")["spec"]["containers"]
    assert [item["spec"]["nodeName"] for item in (one, two, other)] == ["a", "b", "c"]
    assert "managedFields" not in one["metadata"]
    assert "managedFields" in given["metadata"], "what is given is not changed"


def test_what_has_nothing_to_leave_out_is_kept_as_it_is() -> None:
    obj = {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    assert Sharing().slim(obj) is obj


def test_no_more_parts_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PARTS", 3)
    share = Sharing()
    for number in range(10):
        share.slim(pod("a", f"image-{number}"))
    assert len(share._parts) == 3


def test_what_stays_as_it_was_is_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    share = Sharing()
    first = share.slim(pod("a"))
    monkeypatch.setattr(sharing, "dumps", None)
    second = share.slim(pod("a"), first)
    assert second["spec"]["containers"] is first["spec"]["containers"]
