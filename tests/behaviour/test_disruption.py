"""Disruption budgets and evictions: counted by the controller, kept by the subresource."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sampan.api.errors import Object, StatusError
from sampan.api.resources import resource
from sampan.node.simulation.outcome import Outcome
from sampan.server.subresources import eviction
from sampan.testing.cluster import Cluster, Options

from .job_kit import cluster, events
from .test_autoscaling import fleet, fleets
from .workload_kit import deployment

PODS = resource("pods")
BUDGETS = resource("poddisruptionbudgets", "policy")
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
SEVERAL = (
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not "
    "support."
)


def budget(name: str = "b", app: str = "web", **spec: Any) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}, **spec},
    }


async def figures(found: Cluster, name: str = "b") -> tuple[Any, ...]:
    """Expected, desired, current, allowed, and the condition's reason."""
    status = (await found.get("poddisruptionbudget", name))["status"]
    [condition] = status["conditions"]
    assert condition["type"] == "DisruptionAllowed"
    assert (condition["status"] == "True") == (status["disruptionsAllowed"] > 0)
    keys = ("expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed")
    return (*(status[key] for key in keys), condition["reason"])


async def names(found: Cluster) -> list[str]:
    return sorted(
        pod["metadata"]["name"]
        for pod in await found.list("pods")
        if not pod["metadata"].get("deletionTimestamp")
    )


async def evict(found: Cluster, name: str, **options: Any) -> str:
    """What an eviction is answered: "" for yes."""
    body: Object = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": "default"},
    }
    if options:
        body["deleteOptions"] = options
    try:
        await found.client.create(PODS, body, "default", name, "eviction")
    except StatusError as error:
        causes = error.details.causes if error.details is not None else ()
        return f"{error.code} {error.message}" + "".join(f" [{item.text}]" for item in causes)
    return ""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 3}, (4, 3, 4, 1, "SufficientPods")),
        ({"minAvailable": 5}, (4, 5, 4, 0, "InsufficientPods")),
        ({"minAvailable": "51%"}, (4, 3, 4, 1, "SufficientPods")),
        ({"maxUnavailable": 3}, (4, 1, 4, 3, "SufficientPods")),
        ({"maxUnavailable": "30%"}, (4, 2, 4, 2, "SufficientPods")),
        ({"maxUnavailable": 0}, (4, 4, 4, 0, "InsufficientPods")),
        ({}, (0, 0, 4, 0, "InsufficientPods")),
    ],
)
async def test_counts(spec: Object, expected: tuple[Any, ...]) -> None:
    async with cluster() as found:
        await found.apply(deployment(replicas=4))
        await found.apply(budget(**spec))
        await found.settle()
        assert await figures(found) == expected
        status = (await found.get("poddisruptionbudget", "b"))["status"]
        assert status["observedGeneration"] == 1
        assert status["conditions"][0]["observedGeneration"] == 1


async def test_counts_follow_pods_and_owners() -> None:
    async with cluster() as found:
        await found.apply(budget(maxUnavailable=1))
        await found.settle()
        assert await figures(found) == (0, 0, 0, 0, "InsufficientPods")
        told = await events(found, "PodDisruptionBudget")
        assert told[0] == "Normal NoPods: No matching pods found"
        await found.apply(deployment(replicas=3))
        await found.settle()
        assert await figures(found) == (3, 2, 3, 1, "SufficientPods")
        await found.apply(deployment(replicas=2))
        await found.settle()
        assert await figures(found) == (2, 1, 2, 1, "SufficientPods")
        # Pods that are never ready again.
        found.script(Outcome(ready_s=None), "web-*")
        for name in await names(found):
            await found.client.delete(PODS, name, "default")
        await found.settle()
        assert await figures(found) == (2, 1, 0, 0, "InsufficientPods")


async def test_owners_that_cannot_be_scaled() -> None:
    async with cluster() as found:
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "j", "namespace": "default"},
            "spec": {
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{"name": "c", "image": "i"}],
                    },
                }
            },
        }
        found.script(Outcome(run_s=1e6), "j-*")
        await found.apply(job)
        await found.apply(budget(maxUnavailable=1))
        await found.apply(budget("plain", minAvailable=0))
        await found.settle()
        status = (await found.get("poddisruptionbudget", "b"))["status"]
        [condition] = status["conditions"]
        why = "jobs.batch does not implement the scale subresource"
        assert (condition["reason"], condition["message"]) == ("SyncFailed", why)
        assert status["disruptionsAllowed"] == 0
        text = f"Failed to calculate the number of expected pods: {why}"
        told = await events(found, "PodDisruptionBudget")
        assert f"Warning CalculateExpectedPodCountFailed: {text}" in told
        assert await figures(found, "plain") == (1, 0, 1, 1, "SufficientPods")
        [pod] = await names(found)
        assert await evict(found, pod) == f"500 {SEVERAL}"


async def test_custom_owners_say_how_many_pods_they_want() -> None:
    async with cluster() as found:
        await found.apply(fleets())
        await found.settle()
        await found.apply(fleet(5))
        uid = (await found.get("fleet", "f"))["metadata"]["uid"]
        owner = {"apiVersion": "example.com/v1", "kind": "Fleet", "name": "f", "uid": uid}
        for name in ("a", "b", "c"):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": "default",
                    "labels": {"app": "web"},
                    "ownerReferences": [{**owner, "controller": True}],
                },
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            }
            await found.apply(pod)
        await found.apply(budget(maxUnavailable=3))
        await found.settle()
        assert await figures(found) == (5, 2, 3, 1, "SufficientPods")


async def test_pods_without_owner_are_told_of() -> None:
    async with cluster() as found:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "default", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        await found.apply(pod)
        await found.apply(budget(minAvailable="50%"))
        await found.settle()
        assert await figures(found) == (0, 0, 1, 0, "InsufficientPods")
        [text] = [
            item
            for item in await events(found, "PodDisruptionBudget")
            if item.startswith("Warning UnmanagedPods")
        ]
        assert "(selector: &LabelSelector{MatchLabels:map[string]string{app: web,}," in text


async def test_concurrent_evictions_never_exceed_the_budget() -> None:
    async with await Cluster.start(Options(nodes=3)) as found:
        # New pods are not ready, so that nothing is given back meanwhile.
        await found.apply(deployment(replicas=8))
        await found.apply(budget(minAvailable=5))
        await found.settle()
        before = await names(found)
        found.script(Outcome(ready_s=None), match=lambda pod: pod["metadata"]["name"] not in before)
        answers = await asyncio.gather(*(evict(found, name) for name in before))
        assert sorted(answers)[:3] == ["", "", ""]
        assert all(answer.startswith(f"429 {REFUSED}") for answer in sorted(answers)[3:])
        await found.settle()
        ready = [
            pod["metadata"]["name"]
            for pod in await found.list("pods")
            if any(
                item["type"] == "Ready" and item["status"] == "True"
                for item in pod["status"]["conditions"]
            )
        ]
        assert len(ready) == 5
        assert await figures(found) == (8, 5, 5, 0, "InsufficientPods")
        status = (await found.get("poddisruptionbudget", "b"))["status"]
        assert not status.get("disruptedPods")


async def test_a_pod_that_is_not_deleted_counts_again() -> None:
    async with cluster() as found:
        await found.apply(deployment(replicas=2))
        await found.apply(budget(minAvailable=1))
        await found.settle()
        name = (await names(found))[0]
        live = await found.client.get(BUDGETS, "b", "default")
        promised = {name: live["metadata"]["creationTimestamp"]}
        status = {**live["status"], "disruptionsAllowed": 0, "disruptedPods": promised}
        await found.client.update(BUDGETS, {**live, "status": status}, "status")
        await found.settle()
        assert await figures(found) == (2, 1, 1, 0, "InsufficientPods")
        await found.advance(115)
        assert await figures(found) == (2, 1, 1, 0, "InsufficientPods")
        await found.advance(10)
        assert await figures(found) == (2, 1, 2, 1, "SufficientPods")
        assert any("NotDeleted" in item for item in await events(found, "Pod"))


async def test_stale_disruption_targets_are_cleared() -> None:
    async with cluster() as found:
        await found.apply(deployment(replicas=1))
        await found.settle()
        [name] = await names(found)

        async def target() -> Object:
            pod = await found.client.get(PODS, name, "default")
            [item] = [c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget"]
            return dict(item)

        pod = await found.client.get(PODS, name, "default")
        since = pod["metadata"]["creationTimestamp"]
        said = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "lastTransitionTime": since,
        }
        conditions = [*pod["status"]["conditions"], said]
        body = {**pod, "status": {**pod["status"], "conditions": conditions}}
        await found.client.update(PODS, body, "status")
        await found.advance(110)
        assert (await target())["status"] == "True"
        await found.advance(15)
        cleared = await target()
        assert cleared["status"] == "False"
        assert not cleared.get("reason")


async def test_pods_that_do_not_run_go_at_once() -> None:
    async with cluster() as found:
        await found.apply(budget(minAvailable=100))
        found.script(Outcome(start_s=1e6), "web-*")
        await found.apply(deployment(replicas=2))
        await found.settle()
        first, second = await names(found)
        assert await evict(found, first, dryRun=["All"]) == ""
        assert await names(found) == [first, second]
        assert await evict(found, first) == ""
        await found.settle()
        assert first not in await names(found)
        live = await found.client.get(PODS, second, "default")
        stale = {"preconditions": {"resourceVersion": str(int(live["metadata"]["generation"]))}}
        assert (await evict(found, second, **stale)).startswith("409 ")
        assert second in await names(found)


async def test_unhealthy_pods_go_as_the_policy_says() -> None:
    async with cluster() as found:
        found.script(Outcome(ready_s=None), "web-*")
        await found.apply(deployment(replicas=2))
        await found.apply(budget(minAvailable=2))
        await found.settle()
        first, second = await names(found)
        why = "The disruption budget b needs 2 healthy pods and has 0 currently"
        assert await evict(found, first) == f"429 {REFUSED} [{why}]"
        await found.apply(budget(minAvailable=2, unhealthyPodEvictionPolicy="AlwaysAllow"))
        await found.settle()
        assert await evict(found, first) == ""
        await found.apply(budget(minAvailable=2, unhealthyPodEvictionPolicy="IfHealthyBudget"))
        await found.settle()
        assert await evict(found, second) == f"429 {REFUSED} [{why}]"


async def test_a_budget_that_failed_says_so() -> None:
    async with cluster() as found:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "p",
                "namespace": "default",
                "labels": {"app": "web"},
                "ownerReferences": [
                    {
                        "apiVersion": "example.com/v1",
                        "kind": "Thing",
                        "name": "t",
                        "uid": "u",
                        "controller": True,
                    }
                ],
            },
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        await found.client.create(PODS, pod, "default")
        await found.apply(budget(maxUnavailable=1))
        await found.settle()
        why = 'no matches for kind "Thing" in group "example.com"'
        text = (
            "The disruption budget b does not allow evicting pods currently because it failed "
            f"sync: {why}"
        )
        # Its status is not of this generation, though: nothing was ever counted.
        live = await found.client.get(BUDGETS, "b", "default")
        assert live["status"]["conditions"][0]["message"] == why
        status = {**live["status"], "observedGeneration": 1}
        await found.client.update(BUDGETS, {**live, "status": status}, "status")
        assert await evict(found, "p") == f"429 {REFUSED} [{text}]"


@pytest.mark.parametrize("phase", ["Pending", "Running"])
async def test_a_pod_that_becomes_ready_while_it_is_evicted_is_guarded(
    monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """It was free to go as it was not ready; between that look and its end, it is."""
    async with cluster() as found:
        outcome = Outcome(start_s=30) if phase == "Pending" else Outcome(ready_s=30)
        found.script(outcome, "web-*")
        await found.apply(deployment(replicas=1))
        await found.apply(budget(minAvailable=1, unhealthyPodEvictionPolicy="AlwaysAllow"))
        await found.settle()
        [name] = await names(found)
        looked, turned = eviction._delete, False

        async def late(*args: Any) -> None:
            nonlocal turned
            if not turned:
                turned = True
                await found.advance(31)
            await looked(*args)

        monkeypatch.setattr(eviction, "_delete", late)
        answer = await evict(found, name)
        assert answer.startswith(f"429 {REFUSED}")
        assert ("still being processed" in answer) == (phase == "Running")
        assert await names(found) == [name]
        live = await found.client.get(PODS, name, "default")
        assert all(item["type"] != "DisruptionTarget" for item in live["status"]["conditions"])
