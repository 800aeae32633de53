"""What disruption budgets allow: a life of one as a transcript, and rules of single values."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.api.times import format_time
from sampan.controllers.disruption_plan import (
    Observed,
    Wanted,
    disrupted,
    failed_status,
    stale_in_s,
    status_of,
    wanted,
)
from sampan.controllers.runtime.selection import selector_text
from tests.kit.transcript import hold

NOW_S = 1_700_000_000.0


def pod(name: str, *, ready: bool = True, going: bool = False) -> Object:
    meta = {"name": name, **({"deletionTimestamp": "x"} if going else {})}
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {"metadata": meta, "status": {"phase": "Running", "conditions": [condition]}}


def budget(status: Object | None = None, **spec: Any) -> Object:
    return {"metadata": {"name": "b", "generation": 1}, "spec": spec, "status": status or {}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"maxUnavailable": 1}, Wanted(7, 6)),
        ({"maxUnavailable": 9}, Wanted(7, 0)),
        ({"maxUnavailable": "30%"}, Wanted(7, 4)),
        ({"minAvailable": "50%"}, Wanted(7, 4)),
        ({"minAvailable": "100%"}, Wanted(7, 7)),
        ({"minAvailable": 2}, Wanted(3, 2)),
        ({}, Wanted(0, 0)),
    ],
)
def test_wanted(spec: Object, expected: Wanted) -> None:
    assert wanted(budget(**spec), 3, 7) == expected


def test_a_life(request: pytest.FixtureRequest) -> None:
    """minAvailable 2 of 4: an eviction, its pod's end, one that does not end, a failure."""
    status: Object = {}
    lines = []

    def look(what: str, after_s: float, *pods: Object) -> None:
        nonlocal status
        now_s = NOW_S + after_s
        found = budget(status, minAvailable=2)
        promised = disrupted(found, pods, now_s)
        observed = Observed(found, pods, wanted(found, len(pods), 0), now_s)
        status = status_of(observed, promised.pending)
        assert (
            status_of(Observed(budget(status), pods, observed.wanted, now_s), promised.pending)
            == status
        )
        tell(what, after_s, [item["metadata"]["name"] for item in promised.overdue])

    def tell(what: str, after_s: float, overdue: list[str] | None = None) -> None:
        [condition] = status["conditions"]
        lines.append(
            f"{after_s:4.0f} s  {what}: {status.get('currentHealthy')} of "
            f"{status.get('expectedPods')}, wants {status.get('desiredHealthy')}, allows "
            f"{status['disruptionsAllowed']}, promised {sorted(status.get('disruptedPods') or ())}"
            f"{f', overdue {overdue}' if overdue else ''}; {condition['reason']} since "
            f"{condition['lastTransitionTime'][11:19]} {condition['message']}\n"
        )

    def take(name: str, after_s: float) -> None:
        nonlocal status
        names = {**(status.get("disruptedPods") or {}), name: format_time(NOW_S + after_s)}
        allowed = status["disruptionsAllowed"] - 1
        status = {**status, "disruptionsAllowed": allowed, "disruptedPods": names}

    a, b, c, d = (pod(name) for name in "abcd")
    look("nothing", 0)
    look("four pods", 10, a, b, c, d)
    take("a", 20)
    look("a is promised", 20, a, b, c, d)
    take("b", 21)
    look("b is promised too", 21, a, b, c, d)
    look("a goes", 22, pod("a", going=True), b, c, d)
    look("a is gone", 23, b, c, d)
    look("b should be gone", 142, b, c, d)
    look("d is not ready", 150, b, c, pod("d", ready=False))
    status = failed_status(budget(status), "no such thing", NOW_S + 160)
    tell("a failure", 160)
    look("mended", 170, b, c, d)
    hold(request, "budget", "".join(lines))


def _target(**more: Any) -> Object:
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastTransitionTime": format_time(NOW_S),
        **more,
    }
    return {"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [condition]}}


def test_stale_targets() -> None:
    assert stale_in_s(_target(), NOW_S + 50) == 70
    assert stale_in_s(_target(), NOW_S + 500) == 0
    assert stale_in_s(_target(status="False"), NOW_S) is None
    # The node takes its time.
    assert stale_in_s(_target(reason="TerminationByKubelet"), NOW_S + 500) is None
    ended = _target()
    ended["status"]["phase"] = "Failed"
    assert stale_in_s(ended, NOW_S + 500) is None
    assert stale_in_s(pod("p"), NOW_S) is None


def test_selectors_as_go_prints_them() -> None:
    selector = {
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [{"key": "c", "operator": "In", "values": ["x", "y"]}],
    }
    assert selector_text(selector) == (
        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:"
        "[]LabelSelectorRequirement{LabelSelectorRequirement{Key:c,Operator:In,Values:[x y],},},}"
    )
    assert selector_text(None) == "nil"
