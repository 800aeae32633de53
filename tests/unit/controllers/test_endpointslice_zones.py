"""Endpoints are shared out among zones by their processors."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from sampan.api.errors import Object
from sampan.controllers.endpointslice_zones import assign_zones, zone_shares


def node(zone: str, cpu: str = "4", ready: bool = True, **labels: str) -> Object:
    return {
        "metadata": {"labels": {"topology.kubernetes.io/zone": zone, **labels}},
        "status": {
            "allocatable": {"cpu": cpu},
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def endpoints(zones: str, unready: int = 0) -> list[Object]:
    found = [{"zone": zone, "conditions": {"ready": True}} for zone in zones]
    return found + [{"zone": "a", "conditions": {"ready": False}}] * unready


def meant(entries: list[Object]) -> Counter[str]:
    return Counter(item["hints"]["forZones"][0]["name"] for item in entries if "hints" in item)


def test_shares_are_of_the_processors_that_are_ready() -> None:
    nodes = [node("a", "1500m"), node("a", "500m"), node("b", "6"), node("c", ready=False)]
    assert zone_shares(nodes) == {"a": 0.25, "b": 0.75}
    apart = {"node-role.kubernetes.io/control-plane": ""}
    assert zone_shares([*nodes, node("d", "100", True, **apart)]) == {"a": 0.25, "b": 0.75}
    assert zone_shares([node("a")]) == zone_shares([node("a"), node("")]) == {}


@pytest.mark.parametrize(
    ("zones", "shares", "expected"),
    [
        ("aabbcc", {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, {"a": 2, "b": 2, "c": 2}),
        ("aaaabb", {"a": 0.5, "b": 0.5}, {"a": 3, "b": 3}),
        ("aaaaaa", {"a": 0.5, "b": 0.5}, {"a": 3, "b": 3}),
        ("xxaabb", {"a": 0.5, "b": 0.5}, {"a": 3, "b": 3}),
        ("aaaaaaaaaa", {"a": 0.7, "b": 0.3}, {"a": 7, "b": 3}),
    ],
)
def test_zones_get_their_part(
    zones: str, shares: dict[str, float], expected: dict[str, int]
) -> None:
    entries = endpoints(zones, unready=1)
    assert assign_zones(entries, shares) == ""
    assert meant(entries) == expected
    # What is as it should be stays.
    again = [{**item} for item in entries]
    assert assign_zones(again, shares) == ""
    assert again == entries


@pytest.mark.parametrize(
    ("zones", "shares", "why"),
    [
        ("ab", {}, "Insufficient Node information"),
        ("a", {"a": 0.5, "b": 0.5}, r"Insufficient number of endpoints \(1 endpoints, 2 zones\)"),
        ("abab", dict.fromkeys("abc", 1 / 3), "without exceeding overload threshold"),
        (["a", ""], {"a": 0.5, "b": 0.5}, "do not have a zone"),
    ],
)
def test_why_there_are_no_hints(zones: str, shares: dict[str, float], why: str) -> None:
    entries = endpoints(zones)
    entries[0]["hints"] = {"forZones": [{"name": "a"}]}
    said = assign_zones(entries, shares)
    assert re.search(why, said)
    assert not meant(entries)
