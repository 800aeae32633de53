"""Which migration of a resource is next, and what is said of those that are over."""

from __future__ import annotations

from typing import Any

from sampan.controllers.storageversionmigrator_plan import (
    definition_ended,
    definition_started,
    ended,
    is_running,
    next_of,
    started,
)

NOW = 1_700_000_000.0
EARLY, LATE = "2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z"


def migration(name: str, at: str = EARLY, **states: str) -> dict[str, Any]:
    conditions = [{"type": kind, "status": state} for kind, state in states.items()]
    return {
        "metadata": {"name": name, "creationTimestamp": at},
        "status": {"resourceVersion": "5", "conditions": conditions},
    }


def test_the_one_that_runs_goes_on_and_the_oldest_is_next() -> None:
    new, b, a = migration("a", LATE), migration("b"), migration("a")
    assert next_of([new, b]) is b
    assert next_of([b, a]) is a
    running = migration("z", LATE, Running="True")
    assert next_of([a, running]) is running
    assert next_of([migration("s", Succeeded="True"), migration("f", Failed="True")]) is None


def test_one_that_does_not_say_since_when_it_runs_begins() -> None:
    """Whoever may write its status may have said so."""
    said = migration("a", Running="True")
    assert is_running(said)
    del said["status"]["resourceVersion"]
    assert not is_running(said)
    assert not is_running(migration("b"))
    assert started(said, "7", NOW)["resourceVersion"] == "7"


def states(status: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(item[name] for name in names) for item in status["conditions"]]


def test_running_is_said_first_and_then_that_it_is_not() -> None:
    begun = started(migration("a"), "7", NOW)
    assert begun["resourceVersion"] == "7"
    done = ended({"status": begun}, "", NOW + 1)
    assert states(done, "type", "status", "lastTransitionTime") == [
        ("Running", "False", "2023-11-14T22:13:21Z"),
        ("Succeeded", "True", "2023-11-14T22:13:21Z"),
    ]
    # One that never ran does not say that it has stopped.
    assert states(ended(migration("a"), "why", NOW), "type", "message") == [("Failed", "why")]


def definition(generation: int, **status: Any) -> dict[str, Any]:
    versions = [{"name": "v1"}, {"name": "v2", "storage": True}]
    return {
        "metadata": {"generation": generation},
        "spec": {"versions": versions},
        "status": {"storedVersions": ["v1", "v2"], "conditions": [], **status},
    }


def test_stored_versions_go_only_when_all_was_written_by_what_is_still_defined() -> None:
    begun = definition_started(definition(3), "m", NOW)
    assert states(begun, "message", "observedGeneration") == [("Migration m is running", 3)]
    again = definition_started(definition(3, **begun), "m", NOW + 9)
    assert again == {**definition(3)["status"], **begun}, "said once"
    assert definition_started(definition(4, **begun), "m", NOW)["conditions"] != begun["conditions"]
    for generation, succeeded, left in ((3, True, ["v2"]), (4, True, ["v1", "v2"]),
                                        (3, False, ["v1", "v2"])):  # fmt: skip
        done = definition_ended(definition(generation, **begun), succeeded, NOW)
        assert done["storedVersions"] == left
        # Said once, too, whatever comes after.
        assert definition_ended(definition(9, **done), not succeeded, NOW + 9) == done
