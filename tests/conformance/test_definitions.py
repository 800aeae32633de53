"""Custom resource definitions (as upstream's custom_resource_definition.go, crd_watch.go,
crd_conversion_webhook.go and crd_selectable_fields.go in test/e2e/apimachinery)."""

from __future__ import annotations

from contextlib import AsyncExitStack

from tests.kit.definitions import DEFINITIONS, WIDGETS, definition, version, widget
from tests.kit.hooks import Call, HookServer, Reply, hook_server

from .bench import JSON_PATCH, Bench, Obj, discovered

NAME = f"{DEFINITIONS}/widgets.example.com"
WIDGETS_2 = WIDGETS.replace("/v1/", "/v2/")


async def test_they_are_in_the_discovery_documents(bench: Bench) -> None:
    await discovered(bench, "apiextensions.k8s.io", "v1", "customresourcedefinitions")


async def test_they_are_made_and_deleted(bench: Bench) -> None:
    await bench.create(DEFINITIONS, definition())
    await bench.get(WIDGETS)
    await bench.delete(NAME)
    await bench.gone(NAME)
    await bench.expect(404, "GET", WIDGETS)


async def test_they_are_listed_and_deleted_by_label(bench: Bench) -> None:
    for number in range(10):
        body = definition(plural=f"thing{number}s")
        body["metadata"]["labels"] = {"e2e-list-test-uuid": "x"}
        await bench.create(DEFINITIONS, body)
    await bench.create(DEFINITIONS, definition())
    chosen = f"{DEFINITIONS}?labelSelector=e2e-list-test-uuid%3Dx"
    assert len(await bench.names(chosen)) == 10
    await bench.delete(chosen)
    await bench.listed(chosen, lambda items: not items)
    assert await bench.names(DEFINITIONS) == ["widgets.example.com"]


async def test_their_status_is_read_and_written(bench: Bench) -> None:
    await bench.create(DEFINITIONS, definition())
    read = await bench.get(f"{NAME}/status")
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set"}
    read["status"]["conditions"].append(condition)
    updated = await bench.put(f"{NAME}/status", read)
    assert updated["status"]["conditions"][-1]["type"] == "StatusUpdate"
    patch = [{"op": "add", "path": "/status/conditions",
              "value": [{**condition, "type": "StatusPatched"}]}]  # fmt: skip
    patched = await bench.patch(f"{NAME}/status", patch, JSON_PATCH)
    assert "StatusPatched" in [item["type"] for item in patched["status"]["conditions"]]
    assert (await bench.get(NAME))["status"]["acceptedNames"]["kind"] == "Widget"


async def test_defaults_apply_to_requests_and_to_what_is_stored(bench: Bench) -> None:
    def with_defaults(**defaults: str) -> Obj:
        properties = {
            key: {"type": "string", **({"default": defaults[key]} if key in defaults else {})}
            for key in ("a", "b")
        }
        return definition(version(schema={"openAPIV3Schema": {
            "type": "object", "properties": properties}}))  # fmt: skip

    async def define(**defaults: str) -> None:
        found = await bench.get(NAME)
        await bench.put(NAME, {**found, "spec": with_defaults(**defaults)["spec"]})

    await bench.create(DEFINITIONS, with_defaults())
    body = {"apiVersion": "example.com/v1", "kind": "Widget"}
    first = await bench.create(WIDGETS, {**body, "metadata": {"name": "one"}})
    assert "a" not in first
    await define(a="A")
    assert (await bench.get(f"{WIDGETS}/one"))["a"] == "A"
    second = await bench.create(WIDGETS, {**body, "metadata": {"name": "two"}})
    assert second["a"] == "A"
    await define(b="B")
    two = await bench.get(f"{WIDGETS}/two")
    assert (two["a"], two["b"]) == ("A", "B")
    one = await bench.get(f"{WIDGETS}/one")
    assert "a" not in one
    assert one["b"] == "B"


async def test_their_objects_are_watched(bench: Bench) -> None:
    """As upstream: cluster-wide objects of two names, created, changed and deleted."""
    await bench.create(DEFINITIONS, definition(scope="Cluster"))
    path = "/apis/example.com/v1/widgets"
    async with AsyncExitStack() as stack:
        seen = {
            name: await stack.enter_async_context(
                bench.watching(f"{path}?fieldSelector=metadata.name%3D{name}")
            )
            for name in ("name1", "name2")
        }
        for name in seen:
            await bench.create(path, widget(name, content="created"))
        for name in seen:
            await bench.patch(f"{path}/{name}", {"spec": {"content": "changed"}})
        for name in seen:
            await bench.delete(f"{path}/{name}")
        for name, watching in seen.items():
            await watching.count(3)
            assert watching.names == [
                ("ADDED", name), ("MODIFIED", name), ("DELETED", name),
            ]  # fmt: skip


# Conversion: v1 has hostPort, v2 has host and port, as upstream's example.


def converted(obj: Obj, to: str) -> Obj:
    out = {key: value for key, value in obj.items() if key not in ("hostPort", "host", "port")}
    out["apiVersion"] = to
    if to.endswith("v2") and "hostPort" in obj:
        out["host"], _, out["port"] = obj["hostPort"].partition(":")
    elif to.endswith("v1") and "host" in obj:
        out["hostPort"] = f"{obj['host']}:{obj.get('port', '')}"
    return {**obj, **out} if obj["apiVersion"] == to else out


async def convert(call: Call) -> Reply:
    review = call.json
    request = review.pop("request")
    objects = [converted(item, request["desiredAPIVersion"]) for item in request["objects"]]
    review["response"] = {
        "uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects,
    }  # fmt: skip
    return Reply(review)


def two_versions(hook: HookServer) -> Obj:
    def made(name: str, *fields: str) -> Obj:
        properties = {field: {"type": "string"} for field in fields}
        schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
        selectable = [{"jsonPath": f".{field}"} for field in fields]
        return version(name, schema=schema, storage=name == "v1", selectableFields=selectable)

    client = {"url": hook.url("/crdconvert"), "caBundle": hook.bundle}
    webhook = {"clientConfig": client, "conversionReviewVersions": ["v1", "v1beta1"]}
    conversion = {"strategy": "Webhook", "webhook": webhook}
    return definition(made("v1", "hostPort"), made("v2", "host", "port"), conversion=conversion)


async def test_an_object_is_converted(bench: Bench) -> None:
    async with hook_server(convert) as hook:
        await bench.create(DEFINITIONS, two_versions(hook))
        await bench.create(WIDGETS, {**widget(), "hostPort": "localhost:8080"})
        found = await bench.get(f"{WIDGETS_2}/a")
        assert found["apiVersion"] == "example.com/v2"
        assert (found["host"], found["port"]) == ("localhost", "8080")
        assert "hostPort" not in found


async def test_a_list_of_mixed_storage_is_converted(bench: Bench) -> None:
    async with hook_server(convert) as hook:
        await bench.create(DEFINITIONS, two_versions(hook))
        await bench.create(WIDGETS, {**widget("one"), "hostPort": "localhost:8080"})
        found = await bench.get(NAME)
        for item in found["spec"]["versions"]:
            item["storage"] = item["name"] == "v2"
        await bench.put(NAME, found)
        second = widget("two", api_version="example.com/v2")
        await bench.create(WIDGETS_2, {**second, "host": "h", "port": "1"})
        for path, fields in ((WIDGETS_2, {"host", "port"}), (WIDGETS, {"hostPort"})):
            items = (await bench.get(path))["items"]
            assert [item["metadata"]["name"] for item in items] == ["one", "two"]
            assert all(fields <= item.keys() for item in items)


async def test_objects_are_selected_by_fields_of_each_version(bench: Bench) -> None:
    chosen = {
        f"{WIDGETS_2}?fieldSelector=host%3Dhost1": ["one", "two"],
        f"{WIDGETS_2}?fieldSelector=host%3Dhost1,port%3D80": ["one"],
        f"{WIDGETS}?fieldSelector=hostPort%3Dhost1:80": ["one"],
        f"{WIDGETS}?fieldSelector=hostPort%3Dhost1:8080": ["two"],
    }
    async with hook_server(convert) as hook, AsyncExitStack() as stack:
        await bench.create(DEFINITIONS, two_versions(hook))
        seen = {path: await stack.enter_async_context(bench.watching(path)) for path in chosen}
        for name, fields in (
            ("one", {"host": "host1", "port": "80"}),
            ("two", {"host": "host1", "port": "8080"}),
            ("three", {"host": "host2"}),
        ):
            body = {**widget(name, api_version="example.com/v2"), **fields}
            await bench.create(WIDGETS_2, body)
        for path, names in chosen.items():
            assert await bench.names(path) == names
            await seen[path].count(len(names))
            assert seen[path].names == [("ADDED", name) for name in names]
        await bench.delete(f"{WIDGETS_2}?fieldSelector=host%3Dhost1,port%3D80")
        two = await bench.get(f"{WIDGETS_2}/two")
        await bench.put(f"{WIDGETS_2}/two", {**two, "host": "host2"})
        for path, names in chosen.items():
            assert await bench.names(path) == []
            await seen[path].count(2 * len(names))
            assert seen[path].names[len(names) :] == [("DELETED", name) for name in names]
