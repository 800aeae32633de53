"""How fast zones are evicted."""

from __future__ import annotations

import pytest

from sampan.api.errors import Object
from sampan.controllers.node_zones import FULL, NORMAL, PARTIAL, Zones, rate_per_s, state_of


def node(status: str, zone: str = "") -> Object:
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    conditions = [{"type": "Ready", "status": status}]
    return {"metadata": {"labels": labels}, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("ready", "total", "state"),
    [
        (0, 0, NORMAL),
        (1, 1, NORMAL),
        (0, 1, FULL),
        (0, 9, FULL),
        (1, 3, NORMAL),
        (2, 5, PARTIAL),
        (46, 100, NORMAL),
        (45, 100, PARTIAL),
    ],
)
def test_states(ready: int, total: int, state: str) -> None:
    assert state_of(ready, total) == state


def test_rates() -> None:
    assert [rate_per_s(kind, 50) for kind in (NORMAL, PARTIAL, FULL)] == [0.1, 0.0, 0.1]
    assert rate_per_s(PARTIAL, 51) == 0.01


def test_a_zone_is_evicted_node_by_node_and_others_at_their_own_pace() -> None:
    zones = Zones()
    for number in range(5):
        zones.note(f"a{number}", node("True", "a"))
    zones.note("b0", node("True", "b"))
    assert zones.note("a0", node("Unknown", "a")) == set()
    assert zones.note("a1", node("False", "a")) == set()
    assert zones.wait_s("a0", 100) == 0
    zones.evicted("a0", 100)
    assert zones.wait_s("a1", 104) == 6
    assert zones.wait_s("b0", 104) == 0
    # Most of a small zone: nobody more is evicted, and all of it looks again.
    assert zones.note("a2", node("Unknown", "a")) == {f"a{number}" for number in range(5)}
    assert zones.wait_s("a1", 200) is None
    text = zones.exposition()
    zone = 'zone=":\x00:a"'
    assert f"node_collector_unhealthy_nodes_in_zone{{{zone}}} 3\n" in text
    assert f"node_collector_zone_health{{{zone}}} 40\n" in text
    assert f"node_collector_evictions_total{{{zone}}} 1\n" in text
    # A whole zone is: its pods find place in the other.
    for number in (3, 4):
        zones.note(f"a{number}", node("Unknown", "a"))
    assert zones.wait_s("a1", 200) == 0
    # Nobody at all is ready: everybody looks again.
    assert len(zones.note("b0", node("Unknown", "b"))) == 6
    assert zones.is_lost
    assert zones.wait_s("a1", 300) is None
    assert len(zones.note("b0", node("True", "b"))) == 6


def test_nodes_that_move_or_go_leave_nothing() -> None:
    zones = Zones()
    zones.note("n", node("True", "a"))
    zones.note("n", node("True", "b"))
    assert 'zone=":\x00:a"' not in zones.exposition()
    zones.note("n", None)
    zones.note("never", None)
    assert zones.is_lost
    assert "zone=" not in zones.exposition()
