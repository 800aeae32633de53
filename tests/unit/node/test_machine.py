"""The pod machine: tables of what is known and what is to be done."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.node.machine import Plan, decide, go_duration
from sampan.node.state import (
    EXITED,
    RUNNING,
    Attempt,
    Crash,
    Health,
    PodState,
    Waiting,
)
from sampan.node.status import pod_status, status_patch

NOW = 1_700_000_000.0


def run(state: str = RUNNING, code: int = 0, count: int = 0, at: float = NOW) -> Attempt:
    return Attempt(f"id{count}", count, state, exit_code=code, started_at=at, finished_at=at)


def exited(code: int, count: int = 0, at: float = NOW) -> Attempt:
    return run(EXITED, code, count, at)


def state(
    policy: str = "Always",
    init: list[Any] | None = None,
    names: tuple[str, ...] = ("c",),
    **known: Any,
) -> PodState:
    spec: dict[str, Any] = {
        "restartPolicy": policy,
        "containers": [{"name": name, "image": "i"} for name in names],
    }
    if init:
        spec["initContainers"] = init
    pod = {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}
    return PodState(pod, started_at=NOW, sandbox=True, **known)


SIDE = {"name": "s", "restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("known", "start", "done"),
    [
        (state(names=("a", "b")), ["a", "b"], False),
        (state(names=("a", "b"), attempts={"a": [run()]}), ["b"], False),
        (state(attempts={"c": [exited(0)]}), ["c"], False),
        (state("OnFailure", attempts={"c": [exited(1)]}), ["c"], False),
        (state("OnFailure", attempts={"c": [exited(0)]}), [], True),
        (state("Never", attempts={"c": [exited(1)]}), [], True),
        (state("Never", names=("a", "b"), attempts={"a": [exited(1)], "b": [run()]}), [], False),
        (state(init=[{"name": "i"}]), ["i"], False),
        (state(init=[{"name": "i"}], attempts={"i": [run()]}), [], False),
        (state(init=[{"name": "i"}], attempts={"i": [exited(0)]}), ["c"], False),
        (state(init=[{"name": "i"}], attempts={"i": [exited(1)]}), ["i"], False),
        (state("Never", init=[{"name": "i"}], attempts={"i": [exited(1)]}), [], True),
        (
            state(
                "Never",
                init=[{"name": "i"}, {"name": "j"}],
                attempts={"i": [exited(0)], "j": [exited(1)]},
            ),
            [],
            True,
        ),
        (state(init=[SIDE, {"name": "i"}]), ["s"], False),
        (state(init=[SIDE], attempts={"s": [run()]}), ["c"], False),
        (
            state(init=[SIDE], attempts={"s": [run()]}, health={"s": Health(started=False)}),
            [],
            False,
        ),
        # Once a regular container ran, a fallen sidecar does not take the pod back to its start.
        (state(init=[SIDE], attempts={"s": [exited(1)], "c": [run()]}), ["s"], False),
        (state("Never", init=[SIDE], attempts={"s": [run()], "c": [exited(0)]}), [], True),
        (state(init=[{"name": "i"}], attempts={"c": [run()]}), [], False),
    ],
)
def test_what_to_start(known: PodState, start: list[str], done: bool) -> None:
    plan = decide(known, NOW)
    assert (plan.start, plan.done) == (start, done)


@pytest.mark.parametrize(
    ("cap_s", "delays"),
    [(300, [10, 20, 40, 80, 160, 300, 300]), (30, [10, 20, 30, 30, 30, 30, 30]), (2, [2] * 7)],
)
def test_back_off_doubles_and_is_forgotten(cap_s: float, delays: list[float]) -> None:
    known, expected = state(crash_cap_s=cap_s), delays
    delays = []
    now = NOW
    for count in range(8):
        known.attempts = {"c": [exited(1, count, now)]}
        plan = decide(known, now)
        if plan.waiting:
            delays.append(plan.wake_at - now)
            now = plan.wake_at
            plan = decide(known, now)
        assert plan.start == ["c"]
        known.crashes |= plan.crashes
    assert delays == expected
    # A run of more than ten minutes starts over.
    known.attempts = {"c": [exited(1, 9, now + 601)]}
    assert decide(known, now + 601).start == ["c"]
    assert decide(known, now + 601).crashes["c"] == Crash(min(10, cap_s), now + 601)


def test_waiting_for_a_time_or_for_an_event() -> None:
    known = state(waiting={"c": Waiting("ErrImagePull", "x", NOW + 5)})
    assert decide(known, NOW) == Plan(wake_at=NOW + 5)
    assert decide(known, NOW + 5).start == ["c"]
    known = state(waiting={"c": Waiting("CreateContainerConfigError", "x")})
    assert decide(known, NOW) == Plan()


def test_condemned_container_is_killed() -> None:
    known = state(attempts={"c": [run()]}, health={"c": Health(condemned="liveness")})
    (kill,) = decide(known, NOW).kill
    assert kill.why == "Container c failed liveness probe, will be restarted"


def test_deadline() -> None:
    known = state("Never", attempts={"c": [run()]})
    known.pod["spec"]["activeDeadlineSeconds"] = 30
    assert decide(known, NOW).wake_at == NOW + 30
    plan = decide(known, NOW + 30)
    assert plan.done
    assert plan.failure is not None
    assert plan.failure[0] == "DeadlineExceeded"


@pytest.mark.parametrize(
    ("seconds", "text"), [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")]
)
def test_go_duration(seconds: int, text: str) -> None:
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("known", "phase"),
    [
        (state(), "Pending"),
        (state(attempts={"c": [run()]}), "Running"),
        (state(names=("a", "b"), attempts={"a": [run()]}), "Pending"),
        (state(attempts={"c": [exited(1)]}), "Running"),
        (state(attempts={"c": [exited(1)]}, waiting={"c": Waiting("CrashLoopBackOff")}), "Running"),
        (state("Never", attempts={"c": [exited(1)]}), "Failed"),
        (state("Never", attempts={"c": [exited(0)]}), "Succeeded"),
        (state("OnFailure", attempts={"c": [exited(1)]}), "Running"),
        (state(attempts={"c": [exited(0)]}, stopped=True), "Succeeded"),
        (state(attempts={"c": [exited(137)]}, stopped=True), "Failed"),
        (state(init=[{"name": "i"}], attempts={"i": [run()]}), "Pending"),
        (state("Never", init=[{"name": "i"}], attempts={"i": [exited(1)]}), "Failed"),
        (state(init=[{"name": "i"}], attempts={"i": [exited(1)]}), "Pending"),
        (state("Never", init=[SIDE], attempts={"s": [run()], "c": [exited(0)]}), "Running"),
        (
            state("Never", init=[SIDE], attempts={"s": [exited(137)], "c": [exited(0)]}),
            "Succeeded",
        ),
        # What may still run has not come to its end.
        (state(attempts={"c": [run()]}, failure=("Evicted", "x")), "Running"),
        (state(attempts={"c": [exited(1)]}, failure=("Evicted", "x")), "Failed"),
        (state(failure=("OutOfpods", "x")), "Failed"),
        (state(attempts={"c": [exited(0)]}, known={"phase": "Failed"}), "Failed"),
    ],
)
def test_phase(known: PodState, phase: str) -> None:
    assert pod_status(known, NOW, "1.2.3.4")["phase"] == phase


def test_conditions_name_what_is_missing_and_keep_their_times() -> None:
    known = state(names=("a", "b"), attempts={"a": [run()], "b": [run()]})
    known.health["b"] = Health(ready=False)
    first = pod_status(known, NOW, "")
    known.known = first
    later = pod_status(known, NOW + 60, "")
    assert later == first
    by_type = {item["type"]: item for item in later["conditions"]}
    assert by_type["Ready"]["reason"] == "ContainersNotReady"
    assert by_type["Ready"]["message"] == "containers with unready status: [b]"
    known.health["b"] = Health()
    ready = pod_status(known, NOW + 60, "")
    by_type = {item["type"]: item for item in ready["conditions"]}
    assert by_type["Ready"]["lastTransitionTime"] == "2023-11-14T22:14:20Z"
    assert by_type["Initialized"]["lastTransitionTime"] == "2023-11-14T22:13:20Z"
    patch = status_patch(first, ready, "u")
    sent = {item["type"]: item for item in patch["status"]["conditions"]}
    assert sent["Ready"]["reason"] is None
    assert patch["metadata"] == {"uid": "u"}


def test_waiting_container_shows_why_and_how_it_ended() -> None:
    known = state(
        attempts={"c": [exited(2, 3)]}, waiting={"c": Waiting("CrashLoopBackOff", "back-off")}
    )
    (status,) = pod_status(known, NOW, "")["containerStatuses"]
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert status["lastState"]["terminated"]["exitCode"] == 2
    assert status["lastState"]["terminated"]["reason"] == "Error"
    assert (status["restartCount"], status["ready"], status["started"]) == (3, False, False)
    assert status["containerID"] == "crun://id3"


def test_one_that_was_killed_to_start_anew_has_not_crashed() -> None:
    """The back-off counts from its forerunner's end, as where kill and start are one step."""
    crash = {"c": Crash(10, NOW - 60)}
    runs = {"c": [exited(1, 0, NOW - 60), exited(137, 1, NOW)]}
    assert decide(state(attempts=runs, crashes=crash), NOW).start == []
    again = state(attempts=runs, crashes=crash, again={"c"})
    assert decide(again, NOW).start == ["c"]
    for policy in ("OnFailure", "Never"):
        done = state(policy, attempts={"c": [exited(0)]}, again={"c"})
        assert (decide(done, NOW).start, decide(done, NOW).done) == (["c"], False)
        assert pod_status(done, NOW, "")["phase"] == "Running"


def rule(*codes: int, operator: str = "In", policy: str = "Never") -> dict[str, Any]:
    exits = {"operator": operator, "values": list(codes)}
    return {
        "restartPolicy": policy,
        "restartPolicyRules": [{"action": "Restart", "exitCodes": exits}],
    }


@pytest.mark.parametrize(
    ("pod", "own", "code", "start", "phase"),
    [
        ("Never", rule(42), 42, ["c"], "Running"),
        ("Never", rule(42), 1, [], "Failed"),
        ("Never", rule(42), 0, [], "Succeeded"),
        ("Never", rule(42, operator="NotIn"), 1, ["c"], "Running"),
        ("Never", rule(42, operator="NotIn"), 42, [], "Failed"),
        ("Never", {"restartPolicy": "Always"}, 0, ["c"], "Running"),
        ("Never", {"restartPolicy": "OnFailure"}, 1, ["c"], "Running"),
        ("Always", {"restartPolicy": "Never"}, 1, [], "Failed"),
        ("Always", {"restartPolicy": "OnFailure"}, 0, [], "Succeeded"),
        ("Always", rule(42, policy="OnFailure"), 1, ["c"], "Running"),
    ],
)
def test_containers_have_policies_and_rules_of_their_own(
    pod: str, own: dict[str, Any], code: int, start: list[str], phase: str
) -> None:
    known = state(pod, attempts={"c": [exited(code)]})
    known.pod["spec"]["containers"][0] |= own
    plan = decide(known, NOW)
    assert (plan.start, plan.done) == (start, not start)
    assert pod_status(known, NOW, "")["phase"] == phase


def test_an_init_container_s_rules() -> None:
    init = {"name": "i"} | rule(42)
    known = state(init=[init], attempts={"i": [exited(42)]})
    assert decide(known, NOW).start == ["i"]
    assert pod_status(known, NOW, "")["phase"] == "Pending"
    known = state(init=[init], attempts={"i": [exited(1)]})
    assert (decide(known, NOW).start, decide(known, NOW).done) == ([], True)
    assert pod_status(known, NOW, "")["phase"] == "Failed"


def test_a_container_that_may_not_run_again_is_killed_all_the_same() -> None:
    known = state("Never", attempts={"c": [run()]}, health={"c": Health(condemned="liveness")})
    (kill,) = decide(known, NOW).kill
    assert (kill.why, kill.again) == ("Container c failed liveness probe", False)
    known.pod["spec"]["containers"][0] |= rule(137)
    (kill,) = decide(known, NOW).kill
    assert kill.again


def test_a_back_off_lasts_as_long_when_the_clock_is_set() -> None:
    known = state(attempts={"c": [exited(1, 1, NOW)]}, crashes={"c": Crash(10.0, NOW - 1)})
    plan = decide(known, NOW + 1)
    known.waiting |= plan.waiting
    assert plan.wake_at == NOW + 10
    # An hour back: what was decided is shifted along, and comes when it would have.
    (held,) = known.waiting.values()
    known.waiting["c"] = Waiting(held.reason, held.message, held.retry_at - 3600)
    assert decide(known, NOW - 3600 + 9).start == []
    assert decide(known, NOW - 3600 + 10).start == ["c"]
    # Set back before anybody had decided: the wait is no longer than it had to be.
    known.waiting.clear()
    assert decide(known, NOW - 3600).wake_at == NOW - 3600 + 10
