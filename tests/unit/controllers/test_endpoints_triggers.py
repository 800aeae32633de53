"""When changes of endpoints began: upstream's table of TriggerTimeTracker."""

from __future__ import annotations

from sampan.api.errors import Object
from sampan.controllers.endpoints_triggers import ANNOTATION, Triggers, stamped
from sampan.controllers.runtime.queue import Request

WEB = Request("ns", "web")


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z" if second else ""


def service(second: int) -> Object:
    return {"metadata": {"name": "web", "creationTimestamp": at(second)}}


def pod(name: str, second: int) -> Object:
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": at(second)}]
    return {"metadata": {"name": name}, "status": {"conditions": conditions}}


def test_the_first_of_the_changes_since_the_last_look_counts() -> None:
    rows: list[tuple[list[tuple[int, dict[str, int]]], int]] = [
        ([(2, {})], 2),
        # Of a new service, when it was made, whatever its pods did.
        ([(3, {"a": 1, "b": 5})], 3),
        ([(1, {}), (1, {"a": 3, "b": 2})], 2),
        ([(1, {"a": 2, "b": 4}), (1, {"a": 5, "b": 4})], 5),
        ([(1, {"a": 2}), (1, {"a": 4, "b": 3})], 3),
        # Changed, and nothing to measure from: a pod that is gone, a selector.
        ([(1, {"a": 2, "b": 3}), (1, {"a": 2})], 0),
        ([(1, {"a": 2}), (1, {"a": 2})], 0),
        # Made anew under its name, unseen.
        ([(1, {"a": 2}), (4, {"a": 2})], 4),
    ]
    for looks, expected in rows:
        triggers = Triggers()
        for made, pods in looks:
            found = triggers.since(WEB, service(made), [pod(*item) for item in pods.items()])
        assert found == at(expected), looks
    triggers.forget(WEB)
    assert triggers.since(WEB, service(1), [pod("a", 9)]) == at(1)


def test_what_was_said_of_an_earlier_change_goes() -> None:
    assert stamped({"x": "y"}, at(1)) == {"x": "y", ANNOTATION: at(1)}
    assert stamped({"x": "y", ANNOTATION: at(1)}, "") == {"x": "y"}
    assert stamped(None, "") == {}
