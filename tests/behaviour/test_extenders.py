"""Scheduler extenders (kube-scheduler's extender/v1): programs asked over HTTPS for each pod."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.scheduler.configuration import profiles_of
from sampan.scheduler.extender import Extender, ExtenderError, settings_of
from sampan.scheduler.run import Scheduler
from sampan.testing.cluster import SCHEDULER, Cluster, Options
from tests.kit.hooks import Call, HookServer, Reply, hook_server

from .test_scheduling import events, node_of, pod

NAME = "mine"
PATIENCE_S = 5.0
Say = Callable[[str, Any], Any]


def configured(*extenders: Object) -> Object:
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "profiles": [{"schedulerName": NAME}],
        "extenders": [*extenders],
    }


@asynccontextmanager
async def asked(say: Say, nodes: int = 3, **fields: Any) -> AsyncIterator[tuple[Cluster, Any]]:
    """A cluster with a scheduler that asks an extender; `say(verb, body)` is what it answers."""

    async def answer(call: Call) -> Reply:
        said = say(call.target.rsplit("/", 1)[1], call.json)
        return said if isinstance(said, Reply) else Reply(said)

    options = Options(nodes=nodes, capacity={"cpu": "4", "memory": "8Gi", "pods": "20"})
    async with hook_server(answer) as hook, await Cluster.start(options) as cluster:
        supervisor = Supervisor(cluster.clock)
        client = Client(cluster.server.local_transport(SCHEDULER))
        informers = Informers(client, supervisor, cluster.clock)
        extender = {
            "urlPrefix": f"https://localhost:{hook.port}/x/",
            "tlsConfig": {"caData": hook.bundle},
            **fields,
        }
        scheduler = Scheduler(client, informers, cluster.clock, configured(extender))
        supervisor.start("scheduler", scheduler.run)
        try:
            yield cluster, hook
        finally:
            await supervisor.stop()


async def until(test: Callable[[], Any]) -> Any:
    """What the test says once it says something."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := await test():
            return found
        await asyncio.sleep(0)
    raise TimeoutError


def mine(name: str, cpu: str = "100m", **spec: Any) -> Object:
    return pod(name, cpu, schedulerName=NAME, **spec)


def verbs(hook: HookServer) -> list[str]:
    return [call.target.rsplit("/", 1)[1] for call in hook.calls]


async def test_an_extender_filters_and_weighs_nodes_it_is_shown() -> None:
    def say(verb: str, body: Any) -> Any:
        if verb == "filter":
            kept = [item for item in body["Nodes"]["items"] if item["metadata"]["name"] != "node-0"]
            # Go reads names of fields in any case, and programs in the field rely on it.
            return {"nodes": {"items": kept}, "failedNodes": {"node-0": "node(s) were too blue"}}
        return [{"host": "node-2", "score": 10}, {"Host": "node-1", "Score": 1}]

    async with asked(say, filterVerb="filter", prioritizeVerb="rank", weight=5) as (cluster, hook):
        await cluster.create(mine("a"))
        assert await until(lambda: node_of(cluster, "a")) == "node-2"
        assert verbs(hook) == ["filter", "rank"]
        about = hook.calls[0].json
        assert (about["Pod"]["metadata"]["name"], about["NodeNames"]) == ("a", None)
        shown = hook.calls[1].json["Nodes"]["items"]
        assert [item["metadata"]["name"] for item in shown] == ["node-1", "node-2"]


async def test_a_pod_that_an_extender_refuses_says_why_and_is_tried_again() -> None:
    open_ = False

    def say(verb: str, body: Any) -> Any:
        if open_:
            return {"NodeNames": body["NodeNames"]}
        told = dict.fromkeys(body["NodeNames"], "no licence left")
        return {"NodeNames": [], "FailedAndUnresolvableNodes": told}

    async with asked(say, filterVerb="filter", nodeCacheCapable=True) as (cluster, hook):
        await cluster.create(mine("a"))
        found = await until(lambda: events(cluster, "a", "FailedScheduling"))
        assert found == [
            "0/3 nodes are available: 3 no licence left. no new claims to deallocate, preemption: "
            "0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        ]
        assert hook.calls[0].json["Nodes"] is None
        open_ = True
        await cluster.patch("pod", "a", {"metadata": {"labels": {"b": "c"}}})
        assert await until(lambda: node_of(cluster, "a"))


async def test_only_pods_that_ask_for_its_resources_wait_for_an_extender_that_is_away() -> None:
    managed = [{"name": "example.com/seat", "ignoredByScheduler": True}]
    fields: Any = {"filterVerb": "filter", "managedResources": managed}
    async with asked(lambda verb, body: Reply(status=500), **fields) as (cluster, hook):
        await cluster.create(mine("plain"))
        assert await until(lambda: node_of(cluster, "plain"))
        seated = mine("seated")
        seated["spec"]["containers"][0]["resources"]["limits"] = {"example.com/seat": "1"}
        await cluster.create(seated)
        found = await until(lambda: events(cluster, "seated", "FailedScheduling"))
        url = f"https://localhost:{hook.port}/x/filter"
        assert found == [f"failed filter with extender at URL {url}, code 500"]
        condition = (await cluster.get("pod", "seated"))["status"]["conditions"][0]
        assert condition["reason"] == "SchedulerError"
        assert set(verbs(hook)) == {"filter"}


async def test_an_ignorable_extender_is_left_out_when_it_does_not_answer() -> None:
    fields: Any = {
        "filterVerb": "filter",
        "prioritizeVerb": "rank",
        "weight": 1,
        "bindVerb": "bind",
    }
    broken = Reply(raw=b"")
    async with asked(lambda verb, body: broken, ignorable=True, **fields) as (cluster, hook):
        await cluster.create(mine("a"))
        assert await until(lambda: node_of(cluster, "a"))
        assert set(verbs(hook)) == {"filter", "rank", "bind"}


async def test_an_extender_binds() -> None:
    def say(verb: str, body: Any) -> Any:
        return {"Error": "the seat is taken" if body["PodName"] == "b" else ""}

    async with asked(say, bindVerb="bind") as (cluster, hook):
        await cluster.create(mine("a"))
        assert await until(lambda: events(cluster, "a", "Scheduled"))
        assert hook.calls[0].json["Node"].startswith("node-")
        assert not await node_of(cluster, "a"), "binding was the extender's work"
        await cluster.create(mine("b"))
        assert await until(lambda: events(cluster, "b", "FailedScheduling")) == [
            "the seat is taken"
        ]


async def test_an_extender_says_who_may_be_sent_away() -> None:
    def say(verb: str, body: Any) -> Any:
        return {"NodeNameToMetaVictims": {"node-1": body["NodeNameToMetaVictims"]["node-1"]}}

    fields: Any = {"preemptVerb": "preempt", "nodeCacheCapable": True}
    async with asked(say, nodes=2, **fields) as (cluster, hook):
        kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
        await cluster.create({**kind, "metadata": {"name": "high"}, "value": 1000})
        for number in range(2):
            await cluster.create(mine(f"low{number}", "3"))
            assert await until(lambda number=number: node_of(cluster, f"low{number}"))  # type: ignore[misc]
        await cluster.create(mine("important", "3", priorityClassName="high"))
        assert await until(lambda: node_of(cluster, "important")) == "node-1"
        (victims,) = hook.calls[0].json["NodeNameToMetaVictims"]["node-0"]["Pods"]
        assert set(victims) == {"UID"}


async def test_an_extender_that_nobody_runs_is_told_in_gos_words() -> None:
    extender = Extender(settings_of(configured({"urlPrefix": "http://127.0.0.1:1"}))[0])
    with pytest.raises(ExtenderError) as caught:
        await extender.bind({"metadata": {"name": "a", "namespace": "d", "uid": "u"}}, "n")
    await extender.close()
    assert str(caught.value) == (
        'Post "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused'
    )


BAD: dict[str, tuple[list[Object], str]] = {
    "weight": ([{"prioritizeVerb": "p"}], "must have a positive weight applied to it"),
    "two binders": ([{"bindVerb": "b"}, {"bindVerb": "b"}], "only one extender can implement bind"),
    "resource": ([{"managedResources": [{"name": "cpu"}]}], "invalid extended resource name"),
    "twice": (
        [{"managedResources": [{"name": "a.b/c"}, {"name": "a.b/c"}]}],
        "duplicate extender managed resource name",
    ),
    "time": ([{"httpTimeout": "soon"}], "invalid duration"),
    "field": ([{"filterverb": "f"}], 'unknown field "extenders[0].filterverb"'),
}


@pytest.mark.parametrize("name", BAD)
def test_an_extender_that_is_no_good_is_refused(name: str) -> None:
    extenders, text = BAD[name]
    given = [{"urlPrefix": "http://127.0.0.1:1", **item} for item in extenders]
    with pytest.raises(ValueError, match=text.replace("[", r"\[")):
        profiles_of(configured(*given))
