"""metrics.k8s.io/v1beta1: what nodes and pods use now, for `kubectl top` and autoscalers.

Nothing is stored and nobody polls: a request asks the nodes it is about for their /stats/summary,
at most `NODES_AT_ONCE` at a time, and an answer serves for `FRESH_S`. A node that does not answer
within `NODE_S` is left out, as metrics-server leaves it out. A cluster's own metrics-server, once
its APIService is there, takes this group over (`aggregation`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import orjson

from sampan.api import errors
from sampan.api.descriptor import Column, Descriptor, Kind
from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import resource

from .answer import answer_computed
from .exchange import Attributes, Request, Response
from .routes import method_not_allowed
from .selection import Selection, selection_of
from .subresources.containers import node_of
from .subresources.fetching import fetch
from .usageschema import GROUP, PREFIX, VERSION

if TYPE_CHECKING:
    from .app import Server

log = logging.getLogger("sampan.usage")

FRESH_S = 5.0
NODE_S = 10.0
NODES_AT_ONCE = 20
SUMMARY_MAX = 16 << 20
"""A node's answer: half a kilobyte per container."""
WINDOW_S = 1.0
"""What an answer's rates are over, if the node does not say."""


def _cells(obj: Object, now_s: float) -> list[Any]:
    parts = obj.get("containers") or [obj]
    cpu = sum(int(part["usage"]["cpu"].rstrip("n")) for part in parts)
    memory = sum(int(part["usage"]["memory"].removesuffix("Ki")) for part in parts)
    return [obj["metadata"]["name"], f"{cpu}n", f"{memory}Ki", obj["window"]]


COLUMNS = (
    Column("Name", "string", "Name of the resource", "name"),
    Column("CPU", "string", "Processor time per second"),
    Column("Memory", "string", "Working set"),
    Column("Window", "string", "What the rates are over"),
)


def _descriptor(kind: str, plural: str, *, namespaced: bool) -> Descriptor:
    return Descriptor(
        group=GROUP,
        version=VERSION,
        kind=kind,
        plural=plural,
        singular="",
        namespaced=namespaced,
        verbs=("get", "list"),
        subresources={},
        definition=f"{PREFIX}{kind}",
        rules=Kind(GROUP, VERSION, kind, columns=COLUMNS, cells=_cells),
        storage="",
        has_status=False,
        counts_generation=False,
    )


DESCRIPTORS = (
    _descriptor("NodeMetrics", "nodes", namespaced=False),
    _descriptor("PodMetrics", "pods", namespaced=True),
)
"""Without storage: how `Server` knows whom to ask."""


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    """get and list of nodes and pods."""
    asked = attributes.resource
    assert asked is not None
    if attributes.verb not in asked.verbs or attributes.subresource:
        raise method_not_allowed()
    make = _nodes if asked.plural == "nodes" else _pods
    if attributes.verb == "get":
        target = resource(asked.plural)
        found = server.find_object(target, attributes.namespace, attributes.name)
        made = await make(server, [found] if found is not None else [])
        if not made:
            name = attributes.name
            if asked.namespaced:
                name = f"{attributes.namespace}/{name}"
            raise errors.not_found(GROUP, asked.kind.lower(), name)
        return answer_computed(server, request, asked, made, single=True)
    selection = selection_of(request, resource(asked.plural))
    objects = _selected(server, selection, attributes.namespace)
    return answer_computed(server, request, asked, await make(server, objects), single=False)


def _selected(server: Server, selection: Selection, namespace: str) -> list[Object]:
    objects = server.list_objects(selection.resource, namespace)
    return [obj for obj in objects if selection.matches(obj)]


# What the nodes say


async def _nodes(server: Server, nodes: list[Object]) -> list[Object]:
    summaries = await _summaries(server, [node["metadata"]["name"] for node in nodes])
    out = []
    for node in nodes:
        said = (summaries.get(node["metadata"]["name"]) or {}).get("node")
        if said is not None and "usageNanoCores" in said["cpu"]:
            head = _head("NodeMetrics", node, said["cpu"]["time"], _window(said))
            out.append(head | {"usage": _usage(said)})
    return out


async def _pods(server: Server, pods: list[Object]) -> list[Object]:
    summaries = await _summaries(server, {node_of(pod) for pod in pods} - {""})
    by_uid = {
        said["podRef"]["uid"]: (said, _window(summary["node"]))
        for summary in summaries.values()
        for said in summary["pods"]
    }
    out = []
    for pod in pods:
        said, window = by_uid.get(pod["metadata"]["uid"], ({}, ""))
        # A pod is shown once every container of it has been measured twice, as upstream.
        containers = said.get("containers") or ()
        if containers and all("usageNanoCores" in item["cpu"] for item in containers):
            head = _head("PodMetrics", pod, said["cpu"]["time"], window)
            rows = [{"name": item["name"], "usage": _usage(item)} for item in containers]
            out.append(head | {"containers": rows})
    return out


def _head(kind: str, obj: Object, time: str, window: str) -> Object:
    old = obj["metadata"]
    metadata = {"name": old["name"], "creationTimestamp": time}
    if old.get("namespace"):
        metadata["namespace"] = old["namespace"]
    if old.get("labels"):
        metadata["labels"] = old["labels"]
    return {
        "kind": kind,
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": metadata,
        "timestamp": time,
        "window": window,
    }


def _window(node: Object) -> str:
    """A duration in Go's form."""
    return f"{node.get('windowSeconds', WINDOW_S):.9g}s"


def _usage(said: Object) -> Object:
    return {
        "cpu": f"{said['cpu'].get('usageNanoCores', 0)}n",
        "memory": f"{said['memory'].get('workingSetBytes', 0) // 1024}Ki",
    }


class _Answers:
    """The nodes' last answers, and the questions under way; one per server."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[float, Object]] = {}
        self.asking: dict[str, asyncio.Task[Object | None]] = {}
        self.turn = asyncio.Semaphore(NODES_AT_ONCE)


_answers: WeakKeyDictionary[Server, _Answers] = WeakKeyDictionary()


def summarize_by(server: Server, summarize: Callable[[str], Object | None]) -> None:
    """Ask `summarize(node)` first: for nodes that are in this process and have no server of their
    own. It gives None for the others."""
    server.summarize = summarize


async def _summaries(server: Server, names: Iterable[str]) -> dict[str, Object]:
    """By node; those that did not answer are missing."""
    answers = _answers.setdefault(server, _Answers())
    now = server.clock.monotonic()
    answers.known = {
        name: said for name, said in answers.known.items() if 0 <= now - said[0] < FRESH_S
    }
    wanted = list(names)
    for name in wanted:
        if name not in answers.known and name not in answers.asking:
            task = asyncio.create_task(_ask(server, answers, name))
            answers.asking[name] = task
            task.add_done_callback(lambda _, name=name: answers.asking.pop(name, None))  # type: ignore[misc]
    waits = {name: answers.asking[name] for name in wanted if name in answers.asking}
    # Shared with other requests: one that is given up does not end the question.
    said = await asyncio.gather(*(asyncio.shield(task) for task in waits.values()))
    out = {name: answers.known[name][1] for name in wanted if name in answers.known}
    out |= {name: item for name, item in zip(waits, said, strict=True) if item is not None}
    return out


async def _ask(server: Server, answers: _Answers, name: str) -> Object | None:
    own = server.summarize(name) if server.summarize is not None else None
    if own is not None:
        return own
    try:
        async with answers.turn, asyncio.timeout(NODE_S):
            answer = await fetch(server, name, "/stats/summary?only_cpu_and_memory=true")
            text = await answer.text(SUMMARY_MAX)
        if answer.head.result() != 200:
            raise NotFound(text[:200])
        summary: Object = orjson.loads(text)
        if not isinstance(summary.get("node"), dict) or not isinstance(summary.get("pods"), list):
            raise NotFound("no summary")
    except (StatusError, TimeoutError, OSError, orjson.JSONDecodeError, AttributeError) as error:
        log.info("node %s does not say what it uses: %s", name, error or "timed out")
        return None
    answers.known[name] = (server.clock.monotonic(), summary)
    return summary
