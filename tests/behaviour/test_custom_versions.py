"""Custom resources in several versions: conversion by webhook, and what lies in the store."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from sampan.store.sqlite import SqliteStore
from tests.kit.cluster import Answer, Cluster, api_cluster
from tests.kit.definitions import DEFINITIONS, MERGE, WIDGETS, Obj, definition, version, widget
from tests.kit.hooks import Call, HookServer, Reply, hook_server

ONE = f"{DEFINITIONS}/widgets.example.com"
V2 = WIDGETS.replace("/v1/", "/v2/")
PORTS_V1 = {"type": "object", "properties": {"hostPort": {"type": "string"}}}
PORTS_V2 = {
    "type": "object",
    "properties": {
        "host": {"type": "string"},
        "port": {"type": "string"},
        "kind": {"type": "string", "default": "web"},
    },
}
Script = Callable[[Obj, str], Any]


def converted(obj: Obj, wanted: str) -> Obj:
    """v1 has hostPort, v2 host and port; the new object in the version `wanted`."""
    out = {**copy.deepcopy(obj), "apiVersion": wanted}
    spec = out["spec"]
    if wanted.endswith("v2"):
        host, _, port = spec.pop("hostPort", ":").partition(":")
        out["spec"] = {"host": host, "port": port}
    else:
        out["spec"] = {"hostPort": f"{spec.get('host', '')}:{spec.get('port', '')}"}
    return out


@dataclass(slots=True)
class Bench:
    cluster: Cluster
    hook: HookServer

    @property
    def reviews(self) -> list[Obj]:
        return [call.json["request"] for call in self.hook.calls]

    async def define(self, **changes: Any) -> None:
        client = {"url": self.hook.url("/convert"), "caBundle": self.hook.bundle}
        conversion = {"strategy": "Webhook", "webhook": {
            "clientConfig": client, "conversionReviewVersions": ["v1"]}}  # fmt: skip
        versions = (version("v1", PORTS_V1), version("v2", PORTS_V2, storage=False))
        body = definition(*versions, **{"conversion": conversion, **changes})
        made = await self.cluster.http("POST", DEFINITIONS, body)
        assert made.status == 201, made.message

    async def get(self, path: str) -> Answer:
        return await self.cluster.http("GET", path)


@asynccontextmanager
async def bench(
    script: Script = converted, *, respond: Callable[[Obj], Any] | None = None, store: Any = None
) -> AsyncIterator[Bench]:
    """`script` converts one object; `respond` instead makes the whole response of a request."""

    async def answer(call: Call) -> Reply:
        review = call.json
        request = review["request"]
        if respond is not None:
            said = respond(request)
            if isinstance(said, Reply):
                return said
        else:
            objects = [script(item, request["desiredAPIVersion"]) for item in request["objects"]]
            said = {"result": {"status": "Success"}, "convertedObjects": objects}
        response = {"uid": request["uid"], **said}
        return Reply({"apiVersion": review["apiVersion"], "kind": review["kind"],
                      "response": response})  # fmt: skip

    async with api_cluster(store=store) as cluster, hook_server(answer) as hook:
        yield Bench(cluster, hook)


async def test_objects_are_read_and_written_in_every_version() -> None:
    async with bench() as b:
        await b.define()
        made = await b.cluster.http("POST", WIDGETS, widget("a", hostPort="h:80"))
        assert made.status == 201
        assert b.hook.calls == []
        other = (await b.get(f"{V2}/a")).json
        # Converted, then given the defaults of its own version.
        assert other["apiVersion"] == "example.com/v2"
        assert other["spec"] == {"host": "h", "port": "80", "kind": "web"}
        for field in ("uid", "creationTimestamp", "resourceVersion"):
            assert other["metadata"][field] == made.json["metadata"][field]
        # Written in v2, it is stored in v1.
        second = await b.cluster.http("POST", V2, widget("b", "example.com/v2", host="x", port="1"))
        assert second.json["spec"] == {"host": "x", "port": "1", "kind": "web"}
        stored = b.cluster.store.get("/registry/example.com/widgets/default/b")
        assert stored is not None
        assert orjson.loads(stored.value)["apiVersion"] == "example.com/v1"
        assert (await b.get(f"{WIDGETS}/b")).json["spec"] == {"hostPort": "x:1"}
        patch = {"spec": {"port": "2"}}
        changed = await b.cluster.http("PATCH", f"{V2}/b", patch, content_type=MERGE)
        assert changed.json["spec"]["port"] == "2"
        assert (await b.get(f"{WIDGETS}/b")).json["spec"] == {"hostPort": "x:2"}


@pytest.mark.parametrize("strategy", ["None", "Webhook"])
async def test_an_update_of_nothing_writes_nothing_in_a_version_not_stored(strategy: str) -> None:
    async with bench() as b:
        if strategy == "None":
            both = [version("v1", PORTS_V2), version("v2", PORTS_V2, storage=False)]
            await b.define(versions=both, conversion={"strategy": "None"})
        else:
            await b.define()
        made = await b.cluster.http("POST", V2, widget("a", "example.com/v2", host="x", port="1"))
        assert made.status == 201
        found = (await b.get(f"{V2}/a")).json
        again = await b.cluster.http("PUT", f"{V2}/a", found)
        assert (again.status, again.json) == (200, found)
        again = await b.cluster.http("PATCH", f"{V2}/a", {}, content_type=MERGE)
        assert (again.status, again.json) == (200, found)


async def test_a_list_is_converted_in_one_call() -> None:
    async with bench() as b:
        await b.define()
        for number in range(5):
            await b.cluster.http("POST", WIDGETS, widget(f"w{number}", hostPort=f"h:{number}"))
        listed = (await b.get(V2)).json
        assert [item["spec"]["port"] for item in listed["items"]] == list("01234")
        assert {item["apiVersion"] for item in listed["items"]} == {"example.com/v2"}
        assert [len(item["objects"]) for item in b.reviews] == [5]
        assert b.reviews[0]["desiredAPIVersion"] == "example.com/v2"
        # What did not change is not asked about again.
        await b.cluster.http("PATCH", f"{WIDGETS}/w1", {"spec": {"hostPort": "h:9"}},
                             content_type=MERGE)  # fmt: skip
        listed = (await b.get(V2)).json
        assert [item["spec"]["port"] for item in listed["items"]] == list("09234")
        assert [len(item["objects"]) for item in b.reviews] == [5, 1]
        await b.get(WIDGETS)
        assert len(b.reviews) == 2


async def test_watches_show_what_they_ask_for() -> None:
    async with bench() as b:
        await b.define()
        await b.cluster.http("POST", WIDGETS, widget("a", hostPort="h:1"))
        watch = b.cluster.stream(f"{V2}?watch=1")
        first = await anext(watch)
        assert (first["type"], first["object"]["spec"]["port"]) == ("ADDED", "1")
        await b.cluster.http("POST", WIDGETS, widget("b", hostPort="h:2"))
        second = await anext(watch)
        assert (second["type"], second["object"]["spec"]["port"]) == ("ADDED", "2")
        await b.cluster.http("DELETE", f"{WIDGETS}/a")
        last = await anext(watch)
        assert (last["type"], last["object"]["apiVersion"]) == ("DELETED", "example.com/v2")
        await watch.aclose()  # type: ignore[attr-defined]


FAILED = "conversion webhook for example.com/v1, Kind=Widget failed: "
INVALID = (
    "conversion webhook for example.com/v1, Kind=Widget returned invalid converted object at index "
    "0: "
)


def success(*objects: Any) -> Obj:
    return {"result": {"status": "Success"}, "convertedObjects": list(objects)}


def changed(**meta: Any) -> Callable[[Obj], Obj]:
    def respond(request: Obj) -> Obj:
        obj = converted(request["objects"][0], "example.com/v2")
        obj["metadata"] |= meta
        return success(obj)

    return respond


@pytest.mark.parametrize(
    ("respond", "words"),
    [
        (lambda request: {"result": {"status": "Failure", "message": "no way"}}, f"{FAILED}no way"),
        (lambda request: {"result": {"status": "Failure"}},
         f"{FAILED}response.result.status was 'Failure', not 'Success'"),
        (lambda request: {"uid": "x", **success()}, f'{FAILED}expected response.uid="'),
        (lambda request: success(),
         "conversion webhook for example.com/v1, Kind=Widget returned 0 objects, expected 1"),
        (lambda request: success(request["objects"][0]),
         f"{INVALID}invalid groupVersion (expected example.com/v2, received example.com/v1)"),
        (changed(name="other"), f"{INVALID}must have the same name: other != a"),
        (changed(uid="1"), f"{INVALID}must have the same UID: 1 != "),
        (changed(labels={"bad key!": "x"}), f"{INVALID}metadata.labels: Invalid value: "),
        (lambda request: success("text"), f"{INVALID}invalid metadata of type "),
        (lambda request: Reply(b"garbage"), f"{FAILED}"),
        (lambda request: Reply(b"", 503), f"{FAILED}"),
    ],
)  # fmt: skip
async def test_what_a_conversion_webhook_may_not_say(
    respond: Callable[[Obj], Any], words: str
) -> None:
    async with bench(respond=respond) as b:
        await b.define()
        await b.cluster.http("POST", WIDGETS, widget("a", hostPort="h:1"))
        for path in (f"{V2}/a", V2):
            answer = await b.get(path)
            assert answer.status == 500
            assert answer.message.removeprefix("Internal error occurred: ").startswith(words)
        # The version that is stored is read all the same, and so are others.
        assert (await b.get(f"{WIDGETS}/a")).status == 200


async def test_labels_may_change_on_the_way_and_nothing_else_of_the_metadata() -> None:
    def script(obj: Obj, wanted: str) -> Obj:
        out = converted(obj, wanted)
        out["metadata"] |= {"labels": {"via": "hook"}, "generation": 99, "finalizers": ["x.io/y"]}
        return out

    async with bench(script) as b:
        await b.define()
        await b.cluster.http("POST", WIDGETS, widget("a", hostPort="h:1"))
        meta = (await b.get(f"{V2}/a")).json["metadata"]
        assert meta["labels"] == {"via": "hook"}
        assert meta["generation"] == 1
        assert "finalizers" not in meta


async def test_a_definition_is_deleted_although_its_webhook_is_gone() -> None:
    async with bench() as b:
        dead = {"url": "https://localhost:1/x", "caBundle": b.hook.bundle}
        conversion = {"strategy": "Webhook", "webhook": {
            "clientConfig": dead, "conversionReviewVersions": ["v1"]}}  # fmt: skip
        await b.define(conversion=conversion)
        await b.cluster.http("POST", WIDGETS, widget("a", hostPort="h:1"))
        assert (await b.get(f"{V2}/a")).status == 500
        watch = b.cluster.stream(f"{DEFINITIONS}?watch=1")
        await b.cluster.http("DELETE", ONE)
        while (await anext(watch))["type"] != "DELETED":
            continue
        await watch.aclose()  # type: ignore[attr-defined]
        assert (await b.get(WIDGETS)).status == 404


async def test_a_restart_finds_objects_in_every_version(tmp_path: Path) -> None:
    """Stored under the old version and the new, by a definition that has moved on since."""
    path = tmp_path / "store.db"
    store = SqliteStore.open(path)
    versions = [version("v1"), version("v2", PORTS_V2, storage=False)]
    async with api_cluster(store=store) as cluster:
        made = await cluster.http("POST", DEFINITIONS, definition(*versions))
        assert made.status == 201
        await cluster.http("POST", WIDGETS, widget("old", host="a"))
        moved = {"spec": {"versions": [
            {**versions[0], "storage": False}, {**versions[1], "storage": True},
        ]}}  # fmt: skip
        assert (await cluster.http("PATCH", ONE, moved, content_type=MERGE)).status == 200
        await cluster.http("POST", WIDGETS, widget("new", host="b", free="kept in v1 only"))
        await cluster.http("POST", V2, widget("newer", "example.com/v2", host="c"))
        before = [(await cluster.http("GET", where)).json["items"] for where in (WIDGETS, V2)]
    await store.close()
    store = SqliteStore.open(path)
    async with api_cluster(store=store) as cluster:
        found = [(await cluster.http("GET", where)).json["items"] for where in (WIDGETS, V2)]
        assert found == before
        assert [item["apiVersion"] for item in found[1]] == ["example.com/v2"] * 3
        assert [item["spec"]["kind"] for item in found[1]] == ["web"] * 3
        status = (await cluster.http("GET", ONE)).json["status"]
        assert status["storedVersions"] == ["v1", "v2"]
        # A write puts the object into the version of now.
        patch = {"metadata": {"labels": {"touched": "yes"}}}
        await cluster.http("PATCH", f"{WIDGETS}/old", patch, content_type=MERGE)
        raw = store.get("/registry/example.com/widgets/default/old")
        assert raw is not None
        assert orjson.loads(raw.value)["apiVersion"] == "example.com/v2"
        watch = cluster.stream(f"{V2}?watch=1")
        names = {(await anext(watch))["object"]["metadata"]["name"] for _ in range(3)}
        assert names == {"old", "new", "newer"}
        await watch.aclose()  # type: ignore[attr-defined]
    await store.close()
