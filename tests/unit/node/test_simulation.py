"""Simulated pods: what becomes of them at which time, by the script."""

from __future__ import annotations

from typing import Any

from sampan.node.simulation.outcome import Outcome, Rule, Script, matcher
from sampan.node.simulation.pod import SimulatedPod, Step


def pod(policy: str = "Always", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "labels": {"app": "web"}},
        "spec": {
            "restartPolicy": policy,
            "nodeName": "node-0",
            "containers": [{"name": "main", "image": "web:1"}],
            **spec,
        },
    }


def script(outcome: Outcome, container: str = "") -> Script:
    made = Script()
    made.add(Rule(matcher(), outcome, container))
    return made


def main_of(step: Step) -> dict[str, Any]:
    status: dict[str, Any] = step.status["containerStatuses"][0]
    return status


def test_a_pod_starts_and_becomes_ready_in_its_time() -> None:
    simulated, plan = SimulatedPod(pod(), "10.0.0.2", 100), script(Outcome(start_s=2, ready_s=3))
    first = simulated.step(pod(), plan, 100)
    assert (first.status["phase"], first.wake_at) == ("Pending", 102)
    second = simulated.step(pod(), plan, 102)
    assert (second.status["phase"], main_of(second)["ready"], second.wake_at) == (
        "Running",
        False,
        105,
    )
    third = simulated.step(pod(), plan, 105)
    assert main_of(third)["ready"]
    assert third.wake_at == 0
    assert third.status["podIP"] == "10.0.0.2"


def test_a_pod_that_may_end_ends_well_by_default() -> None:
    step = SimulatedPod(pod("Never"), "", 100).step(pod("Never"), Script(), 100)
    assert step.status["phase"] == "Succeeded"
    assert main_of(step)["state"]["terminated"]["reason"] == "Completed"


def test_a_crash_is_restarted_with_kubelets_back_off() -> None:
    simulated, plan = SimulatedPod(pod(), "", 100), script(Outcome(run_s=1, exit_code=3))
    step = simulated.step(pod(), plan, 100)
    assert step.wake_at == 101
    step = simulated.step(pod(), plan, 101)  # the first restart is immediate
    assert main_of(step)["restartCount"] == 1
    step = simulated.step(pod(), plan, 102)
    assert main_of(step)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert main_of(step)["lastState"]["terminated"]["exitCode"] == 3
    assert step.wake_at == 112


def test_a_shorter_back_off_may_be_asked_for() -> None:
    simulated = SimulatedPod(pod(), "", 100)
    plan = script(Outcome(run_s=0, exit_code=1, back_off_s=0.5))
    assert simulated.step(pod(), plan, 100).wake_at == 100.5


def test_an_end_at_once_for_ever_does_not_hang() -> None:
    simulated = SimulatedPod(pod(), "", 100)
    plan = script(Outcome(run_s=0, exit_code=1, back_off_s=0))
    assert simulated.step(pod(), plan, 100).wake_at == 101


def test_init_containers_come_first_and_sidecars_stay() -> None:
    spec = {
        "initContainers": [
            {"name": "log", "image": "log:1", "restartPolicy": "Always"},
            {"name": "seed", "image": "seed:1"},
        ]
    }
    body = pod(**spec)
    simulated, plan = SimulatedPod(body, "", 100), script(Outcome(run_s=5), "seed")
    step = simulated.step(body, plan, 100)
    assert step.status["phase"] == "Pending"
    assert step.status["initContainerStatuses"][0]["ready"]
    step = simulated.step(body, plan, 105)
    assert step.status["phase"] == "Running"
    assert "running" in step.status["initContainerStatuses"][0]["state"]


def test_what_never_starts_says_why_until_the_script_changes() -> None:
    simulated = SimulatedPod(pod(), "", 100)
    plan = script(Outcome(waiting="ImagePullBackOff", message="no such image"))
    waiting = main_of(simulated.step(pod(), plan, 100))["state"]["waiting"]
    assert waiting == {"reason": "ImagePullBackOff", "message": "no such image"}
    plan.add(Rule(matcher(image="web:*"), Outcome()))
    simulated.rescript(plan)
    assert simulated.step(pod(), plan, 130).status["phase"] == "Running"


def test_a_deleted_pod_goes_when_it_has_stopped_and_within_its_grace() -> None:
    simulated, plan = SimulatedPod(pod(), "", 100), script(Outcome(stop_s=50))
    simulated.step(pod(), plan, 100)
    body = pod()
    body["metadata"] |= {"deletionTimestamp": "now", "deletionGracePeriodSeconds": 30}
    step = simulated.step(body, plan, 110)
    assert (step.gone, step.wake_at) == (False, 140)
    step = simulated.step(body, plan, 140)
    assert step.gone
    assert main_of(step)["state"]["terminated"]["exitCode"] == 143


def test_a_deadline_fails_the_pod() -> None:
    body = pod(activeDeadlineSeconds=10)
    simulated = SimulatedPod(body, "", 100)
    assert simulated.step(body, Script(), 100).wake_at == 110
    step = simulated.step(body, Script(), 110)
    assert (step.status["phase"], step.status["reason"]) == ("Failed", "DeadlineExceeded")


def test_the_last_rule_that_speaks_of_a_pod_counts() -> None:
    plan = script(Outcome(exit_code=1))
    plan.add(Rule(matcher("other-*"), Outcome(exit_code=2)))
    plan.add(Rule(matcher(labels={"app": "web"}), Outcome(exit_code=3)))
    body = pod()
    assert plan.outcome(body, body["spec"]["containers"][0]).exit_code == 3
    body["metadata"]["labels"] = {}
    assert plan.outcome(body, body["spec"]["containers"][0]).exit_code == 1
