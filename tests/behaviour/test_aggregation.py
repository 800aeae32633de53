"""API aggregation: another server's group, seen through this one (as upstream's
test/e2e/apimachinery/aggregator.go)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from sampan.api.resources import resource
from sampan.server.exchange import Request, Response, Stream, User
from sampan.server.http import serve
from sampan.store.engine import Engine
from sampan.store.memory import NoJournal
from sampan.store.mvcc import State
from tests.kit.clock import settle
from tests.kit.cluster import ADMIN, Cluster, api_cluster, request_of, server_files
from tests.kit.definitions import DEFINITIONS, definition
from tests.kit.hooks import Call, HookServer, Reply, hook_server, serving_context
from tests.kit.wire import check_echo, echo_body

APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
GROUP, VERSION = "wardle.example.com", "v1alpha1"
NAME = f"{VERSION}.{GROUP}"
BASE = f"/apis/{GROUP}/{VERSION}"
V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
JANE = User("jane", ("devs", "system:authenticated"), "u-1", {"example.com/Scope": ["a", "b"]})
RESOURCES = {
    "kind": "APIResourceList",
    "groupVersion": f"{GROUP}/{VERSION}",
    "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder",
         "verbs": ["get", "list", "create", "watch"], "shortNames": ["fl"]},
        {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder",
         "verbs": ["get"]},
    ],
}  # fmt: skip


FLUNDER = "com.example.wardle.v1alpha1.Flunder"
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def operation(definition: str) -> dict[str, Any]:
    schema = {"$ref": f"#/definitions/{definition}"}
    responses = {"200": {"description": "OK", "schema": schema}}
    return {"get": {"operationId": "read", "parameters": [{"$ref": "#/parameters/pretty-x"}],
                    "responses": responses}}  # fmt: skip


SWAGGER = {
    "swagger": "2.0",
    "info": {"title": "Wardle", "version": "1"},
    "paths": {
        f"{BASE}/namespaces/{{namespace}}/flunders": operation(FLUNDER),
        "/api/v1/pods": operation("com.example.Evil"),
    },
    "parameters": {"pretty-x": {"name": "pretty", "in": "query", "type": "string"}},
    "definitions": {
        FLUNDER: {
            "type": "object",
            "properties": {"metadata": {"$ref": f"#/definitions/{META}"},
                           "next": {"$ref": f"#/definitions/{FLUNDER}"}},
        },
        META: {"type": "object", "description": "another server's"},
        "com.example.Evil": {"type": "object"},
    },
}  # fmt: skip


@dataclass(slots=True)
class Bench:
    cluster: Cluster
    extension: HookServer

    async def register(self, **spec: Any) -> None:
        service = {"metadata": {"name": "api"},
                   "spec": {"type": "ExternalName", "externalName": "localhost"}}  # fmt: skip
        await self.cluster.http("POST", "/api/v1/namespaces/default/services", service)
        values = {
            "group": GROUP, "version": VERSION, "groupPriorityMinimum": 2000,
            "versionPriority": 200, "caBundle": self.extension.bundle,
            "service": {"namespace": "default", "name": "api", "port": self.extension.port},
        }  # fmt: skip
        body = {"metadata": {"name": NAME}, "spec": {**values, **spec}}
        answer = await self.cluster.http("POST", APISERVICES, body)
        assert answer.status == 201, answer.message

    async def condition(self, reason: str, name: str = NAME) -> dict[str, Any]:
        """The Available condition, once it has this reason."""
        path = f"{APISERVICES}?watch=true&fieldSelector=metadata.name={name}"
        async with asyncio.timeout(10):
            async for event in self.cluster.stream(path):
                for item in event["object"].get("status", {}).get("conditions") or ():
                    if item["reason"] == reason:
                        return dict(item)
        raise AssertionError

    @property
    def calls(self) -> list[Call]:
        """What clients asked for; not the checks."""
        return [item for item in self.extension.calls
                if item.headers["x-remote-user"] not in ("system:kube-aggregator",
                                                         "system:aggregator")]  # fmt: skip


async def flunders(call: Call) -> Reply:
    path = call.target.partition("?")[0]
    if path == BASE:
        return Reply(RESOURCES)
    if path == "/openapi/v3":
        url = f"/openapi/v3{BASE}?hash=ABC123"
        return Reply({"paths": {BASE[1:]: {"serverRelativeURL": url}}})
    if path == f"/openapi/v3{BASE}":
        return Reply({"openapi": "3.0.0", "paths": {}})
    if path == "/openapi/v2":
        return Reply(SWAGGER)
    if path.endswith("/moved"):
        return Reply(b"", 302, {"Location": "https://localhost:1/secret"})
    if path.endswith("/broken"):
        return Reply(raw=b"")
    if "watch=true" in call.target:

        async def chunks() -> AsyncIterator[bytes]:
            for number in range(3):
                yield orjson.dumps({"type": "ADDED", "object": {"n": number}}) + b"\n"

        return Reply(chunks())
    status = 201 if call.method == "POST" else 200
    return Reply({"kind": "Flunder", "method": call.method, "body": call.body.decode()}, status,
                 {"X-Own": "yes", "Warning": '299 - "careful"'})  # fmt: skip


@asynccontextmanager
async def bench(answer: Any = flunders, names: tuple[str, ...] = ()) -> AsyncIterator[Bench]:
    ca = (server_files() / "front-proxy-ca.crt").read_bytes()
    hosts = names or ("api.default.svc",)
    async with (
        api_cluster(tokens={"root": ADMIN}) as cluster,
        hook_server(answer, client_ca=ca, names=hosts) as server,
    ):
        yield Bench(cluster, server)


@asynccontextmanager
async def listening(
    cluster: Cluster,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server's own listener, without TLS."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = await serve(cluster.server, [sock])
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            await listener.close()


async def test_what_is_served_here_has_local_apiservices() -> None:
    async with api_cluster() as cluster:
        found = (await cluster.http("GET", APISERVICES)).json["items"]
        by_name = {item["metadata"]["name"]: item for item in found}
        assert {"v1.", "v1.apps", "v1.batch", "v2.autoscaling"} <= by_name.keys()
        assert "v1.apiregistration.k8s.io" not in by_name
        core = by_name["v1."]
        assert core["spec"] == {"version": "v1", "groupPriorityMinimum": 18000,
                                "versionPriority": 1}  # fmt: skip
        assert core["metadata"]["labels"] == {
            "kube-aggregator.kubernetes.io/automanaged": "onstart"
        }
        (condition,) = core["status"]["conditions"]
        assert (condition["status"], condition["reason"], condition["message"]) == (
            "True", "Local", "Local APIServices are always available",
        )  # fmt: skip
        table = (await cluster.http("GET", APISERVICES, accept=(
            "application/json;as=Table;g=meta.k8s.io;v=v1"))).json  # fmt: skip
        row = next(item["cells"] for item in table["rows"] if item["cells"][0] == "v1.apps")
        assert row[1:3] == ["Local", "True"]
        # What a start finds changed or missing it sets right.
        await cluster.http("DELETE", f"{APISERVICES}/v1.batch")
        spec = {"spec": {"versionPriority": 7}}
        merge = "application/merge-patch+json"
        await cluster.http("PATCH", f"{APISERVICES}/v1.apps", spec, content_type=merge)
        async with api_cluster(store=cluster.store) as again:
            apps = (await again.http("GET", f"{APISERVICES}/v1.apps")).json
            assert apps["spec"]["versionPriority"] == 15
            assert (await again.http("GET", f"{APISERVICES}/v1.batch")).status == 200


async def test_extension_servers_learn_whom_to_believe() -> None:
    async with api_cluster() as cluster:
        path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
        data = (await cluster.http("GET", path)).json["data"]
        assert data["requestheader-allowed-names"] == '["front-proxy-client"]'
        assert data["requestheader-extra-headers-prefix"] == '["X-Remote-Extra-"]'
        assert data["requestheader-group-headers"] == '["X-Remote-Group"]'
        assert data["requestheader-username-headers"] == '["X-Remote-User"]'
        assert data["requestheader-client-ca-file"] != data["client-ca-file"]


async def test_requests_are_passed_on_with_who_asks() -> None:
    async with bench() as b:
        await b.register()
        condition = await b.condition("Passed")
        assert (condition["status"], condition["message"]) == ("True", "all checks passed")
        path = f"{BASE}/namespaces/default/flunders"
        denied = await b.cluster.http("GET", path, user=JANE)
        assert denied.status == 403
        assert 'cannot list resource "flunders" in API group "wardle.example.com"' in denied.message
        role = {"metadata": {"name": "fl"}, "rules": [
            {"apiGroups": [GROUP], "resources": ["flunders"], "verbs": ["*"]}]}  # fmt: skip
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        await b.cluster.http("POST", f"{rbac}/clusterroles", role)
        binding = {"metadata": {"name": "fl"}, "subjects": [{"kind": "User", "name": "jane",
                   "apiGroup": "rbac.authorization.k8s.io"}], "roleRef": {"kind": "ClusterRole",
                   "name": "fl", "apiGroup": "rbac.authorization.k8s.io"}}  # fmt: skip
        await b.cluster.http("POST", f"{rbac}/clusterrolebindings", binding)
        request = request_of("POST", f"{path}?dryRun=All&x=a%20b", {"a": 1}, JANE,
                             "application/json", "")  # fmt: skip
        request.headers = {  # type: ignore[assignment]
            **request.headers, "authorization": "Bearer secret", "x-remote-user": "admin",
            "x-remote-group": "system:masters", "impersonate-user": "admin", "x-mine": "1",
        }  # fmt: skip
        answer = await b.cluster.server.handle(request)
        assert isinstance(answer, Response)
        assert (answer.status, orjson.loads(answer.body or b"")["body"]) == (201, '{"a":1}')
        assert ("x-own", "yes") in [(name.lower(), text) for name, text in answer.headers]
        (call,) = b.calls
        assert call.target == f"{path}?dryRun=All&x=a+b"
        assert call.headers["x-remote-user"] == "jane"
        assert call.headers["x-remote-uid"] == "u-1"
        assert call.headers["x-remote-group"] == "devs,system:authenticated"
        assert call.headers["x-remote-extra-example.com%2fscope"] == "a,b"
        assert call.headers["x-mine"] == "1"
        assert not {"authorization", "impersonate-user"} & call.headers.keys()
        assert call.certificate is not None
        assert (("commonName", "front-proxy-client"),) in call.certificate["subject"]
        await b.cluster.http("GET", path)
        assert b.calls[-1].connection == call.connection


async def test_watches_stream_through() -> None:
    async with bench() as b:
        await b.register()
        await b.condition("Passed")
        events = [item async for item in b.cluster.stream(f"{BASE}/flunders?watch=true")]
        assert [item["object"]["n"] for item in events] == [0, 1, 2]
        answer = await b.cluster.server.handle(
            Request("HEAD", f"{BASE}/flunders", {}, {}, b"", User("a", ("system:masters",)))
        )
        assert isinstance(answer, Response | Stream)
        assert answer.status == 200


async def test_backends_that_misbehave() -> None:
    async with bench() as b:
        await b.register()
        await b.condition("Passed")
        moved = await b.cluster.http("GET", f"{BASE}/moved")
        assert (moved.status, moved.body) == (
            502, b"the backend attempted to redirect this request, which is not permitted\n",
        )  # fmt: skip
        broken = await b.cluster.http("GET", f"{BASE}/broken")
        assert (broken.status, broken.body) == (503, b"error trying to reach service: EOF\n")


async def test_discovery_and_openapi_are_one() -> None:
    async with bench() as b:
        await b.register()
        await b.condition("Passed")
        groups = (await b.cluster.http("GET", "/apis")).json["groups"]
        assert GROUP in [item["name"] for item in groups]
        group = (await b.cluster.http("GET", f"/apis/{GROUP}")).json
        assert group["preferredVersion"]["version"] == VERSION
        assert (await b.cluster.http("GET", BASE)).json == RESOURCES
        found = (await b.cluster.http("GET", "/apis", accept=V2)).json["items"]
        (item,) = [item for item in found if item["metadata"]["name"] == GROUP]
        (version,) = item["versions"]
        (row,) = version["resources"]
        assert (version["freshness"], row["resource"], row["shortNames"], row["scope"]) == (
            "Current", "flunders", ["fl"], "Namespaced",
        )  # fmt: skip
        assert [part["subresource"] for part in row["subresources"]] == ["status"]
        index = (await b.cluster.http("GET", "/openapi/v3")).json["paths"]
        assert index[BASE[1:]]["serverRelativeURL"] == f"/openapi/v3{BASE}?hash=ABC123"
        assert "api/v1" in index
        document = await b.cluster.http("GET", f"/openapi/v3{BASE}?hash=ABC123")
        assert document.json == {"openapi": "3.0.0", "paths": {}}
        await b.cluster.http("DELETE", f"{APISERVICES}/{NAME}")
        groups = (await b.cluster.http("GET", "/apis")).json["groups"]
        assert GROUP not in [item["name"] for item in groups]
        assert (await b.cluster.http("GET", f"{BASE}/flunders")).status == 404


async def test_availability_follows_the_service() -> None:
    async with bench() as b:
        service = {"namespace": "default", "name": "later", "port": 443}
        await b.register(service=service)
        condition = await b.condition("ServiceNotFound")
        assert condition["message"] == 'service/later in "default" is not present'
        assert condition["status"] == "False"
        away = await b.cluster.http("GET", f"{BASE}/flunders")
        assert (away.status, away.body) == (503, b"service unavailable\n")
        found = (await b.cluster.http("GET", "/apis", accept=V2)).json["items"]
        (item,) = [item for item in found if item["metadata"]["name"] == GROUP]
        assert item["versions"] == [{"version": VERSION, "resources": [], "freshness": "Stale"}]
        services = "/api/v1/namespaces/default/services"
        later = {"metadata": {"name": "later"}, "spec": {"ports": [{"port": 80, "name": "web"}]}}
        await b.cluster.http("POST", services, later)
        condition = await b.condition("ServicePortError")
        assert condition["message"] == 'service/later in "default" is not listening on port 443'
        merge = "application/merge-patch+json"
        ports = {"spec": {"ports": [{"port": 443, "name": "web"}]}}
        await b.cluster.http("PATCH", f"{services}/later", ports, content_type=merge)
        condition = await b.condition("EndpointsNotFound")
        slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
        entry = {
            "metadata": {"name": "later-1", "labels": {"kubernetes.io/service-name": "later"}},
            "addressType": "IPv4",
            "endpoints": [],
            "ports": [{"name": "web", "port": 1}],
        }
        assert (await b.cluster.http("POST", slices, entry)).status == 201
        condition = await b.condition("MissingEndpoints")
        assert condition["message"] == (
            'endpointslices for service/later in "default" have no addresses with port name "web"'
        )
        await b.cluster.http("DELETE", f"{services}/later")
        await b.cluster.http("POST", services, {"metadata": {"name": "later"}, "spec": {
            "type": "ExternalName", "externalName": "localhost"}})  # fmt: skip
        condition = await b.condition("FailedDiscoveryCheck")
        assert condition["message"].startswith(
            f"failing or missing response from https://later.default.svc:443{BASE}: "
        )


@pytest.mark.parametrize(
    ("insecure", "reason"), [(True, "Passed"), (False, "FailedDiscoveryCheck")]
)
async def test_certificates_are_checked_unless_told_otherwise(insecure: bool, reason: str) -> None:
    async with bench(names=("other.default.svc",)) as b:
        trust = {"insecureSkipTLSVerify": True, "caBundle": None} if insecure else {}
        await b.register(**trust)
        await b.condition(reason)


async def test_an_extension_that_is_not_asked_costs_no_look_at_paths() -> None:
    async with api_cluster() as cluster:
        assert cluster.server.aggregator.remote == {}
        assert cluster.server.aggregator.shown is cluster.server.resources


async def test_custom_resources_have_automatic_apiservices() -> None:
    async with api_cluster() as cluster:
        schema = {"openAPIV3Schema": {"type": "object"}}
        definition = {
            "metadata": {"name": "boats.sea.example.com"},
            "spec": {"group": "sea.example.com", "scope": "Namespaced",
                     "names": {"plural": "boats", "kind": "Boat"},
                     "versions": [{"name": "v1", "served": True, "storage": True,
                                   "schema": schema}]},
        }  # fmt: skip
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        assert (await cluster.http("POST", path, definition)).status == 201
        bench = Bench(cluster, HookServer(0, ""))
        await bench.condition("Local", "v1.sea.example.com")
        found = (await cluster.http("GET", f"{APISERVICES}/v1.sea.example.com")).json
        assert found["spec"]["groupPriorityMinimum"] == 1000
        assert found["spec"]["versionPriority"] == 100
        managed = {"kube-aggregator.kubernetes.io/automanaged": "true"}
        assert found["metadata"]["labels"] == managed
        await cluster.http("DELETE", f"{path}/boats.sea.example.com")
        since = found["metadata"]["resourceVersion"]
        watch = f"{APISERVICES}?watch=true&resourceVersion={since}"
        async with asyncio.timeout(5):
            async for event in cluster.stream(watch):
                if event["type"] == "DELETED":
                    assert event["object"]["metadata"]["name"] == "v1.sea.example.com"
                    break


async def test_version_2_is_one_document() -> None:
    async with bench() as b:
        before = (await b.cluster.http("GET", "/openapi/v2")).json
        await b.register()
        await b.condition("Passed")
        answer = await b.cluster.http("GET", "/openapi/v2")
        found = answer.json
        path = f"{BASE}/namespaces/{{namespace}}/flunders"
        get = found["paths"][path]["get"]
        assert get["parameters"] == [{"name": "pretty", "in": "query", "type": "string"}]
        flunder = found["definitions"][FLUNDER]
        assert flunder["properties"] == {
            "metadata": {"$ref": f"#/definitions/{META}_v2"},
            "next": {"$ref": f"#/definitions/{FLUNDER}"},
        }
        assert found["definitions"][f"{META}_v2"]["description"] == "another server's"
        # What is ours stays as it was, and nobody else speaks for our paths.
        assert found["paths"]["/api/v1/pods"] == before["paths"]["/api/v1/pods"]
        assert found["definitions"][META] == before["definitions"][META]
        assert "com.example.Evil" not in found["definitions"]
        # Asked for again, it is not made again; kubectl before 1.29 reads protobuf.
        asked = len(b.extension.calls)
        again = await b.cluster.http("GET", "/openapi/v2")
        assert dict(again.headers)["ETag"] == dict(answer.headers)["ETag"]
        assert len(b.extension.calls) == asked
        protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        packed = await b.cluster.http("GET", "/openapi/v2", accept=protobuf)
        assert FLUNDER.encode() in packed.body
        # A new definition is in it at once.
        await b.cluster.http("POST", DEFINITIONS, definition())
        found = (await b.cluster.http("GET", "/openapi/v2")).json
        assert "com.example.v1.Widget" in found["definitions"]
        assert FLUNDER in found["definitions"]
        await b.cluster.http("DELETE", f"{APISERVICES}/{NAME}")
        found = (await b.cluster.http("GET", "/openapi/v2")).json
        assert FLUNDER not in found["definitions"]


@pytest.mark.parametrize(
    "document",
    [
        b"garbage", [], {"paths": []}, {"paths": {f"{BASE}/x": {"$ref": "#/parameters/no"}}},
        {"paths": {f"{BASE}/x": {"$ref": "#/definitions/no"}}, "definitions": 5},
    ],
)  # fmt: skip
async def test_a_document_that_makes_no_sense_harms_nobody(document: Any) -> None:
    async def answer(call: Call) -> Reply:
        return Reply(document) if call.target == "/openapi/v2" else await flunders(call)

    async with bench(answer) as b:
        await b.register()
        await b.condition("Passed")
        answer_v2 = await b.cluster.http("GET", "/openapi/v2")
        assert answer_v2.status == 200
        assert "/api/v1/pods" in answer_v2.json["paths"]
        assert f"{BASE}/x" not in answer_v2.json["paths"]


@asynccontextmanager
async def behind(b: Bench, speak: Any) -> AsyncIterator[None]:
    """Register a server that speaks for itself, byte by byte."""
    context = serving_context(names=("api.default.svc",))
    backend = await asyncio.start_server(speak, "127.0.0.1", 0, ssl=context)
    port = backend.sockets[0].getsockname()[1]
    await b.register()
    await b.condition("Passed")
    extension = b.cluster.server.aggregator.remote[GROUP, VERSION]
    assert extension.target is not None
    extension.target = replace(
        extension.target,
        url=f"https://api.default.svc:{port}",
        service=extension.reference._replace(port=port),
    )
    async with backend:
        yield


async def test_bodies_are_passed_on_as_they_come() -> None:
    """Larger than what the server takes itself, echoed while it is still being sent."""
    total = 8 << 20
    heads: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        await echo_body(reader, writer, total)
        writer.close()

    async with bench() as b, behind(b, echo), listening(b.cluster) as (reader, writer):
        head = f"POST {BASE}/namespaces/x/flunders HTTP/1.1\r\nHost: h\r\n"
        head += f"Authorization: Bearer root\r\nContent-Length: {total}\r\n\r\n"
        writer.write(head.encode())
        await check_echo(reader, writer, total)
        assert b"X-Remote-User: admin" in heads[0]
        assert f"Content-Length: {total}".encode() in heads[0]


async def test_upgrades_pass_both_ways() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if "Upgrade: shout" in head and "X-Remote-User: admin" in head:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                         b"Upgrade: shout\r\n\r\nHELLO")  # fmt: skip
            while said := await reader.read(100):
                writer.write(said.upper())
                await writer.drain()
        writer.close()

    async with bench() as b, behind(b, speak), listening(b.cluster) as (reader, writer):
        head = f"GET {BASE}/namespaces/x/flunders/f/shell HTTP/1.1\r\nHost: h\r\n"
        head += "Authorization: Bearer root\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n"
        writer.write(head.encode())
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 101")
            assert await reader.readexactly(5) == b"HELLO"
            writer.write(b"quiet")
            assert await reader.readexactly(5) == b"QUIET"


async def test_a_client_that_leaves_half_a_body_ends_the_call() -> None:
    begun = asyncio.Event()
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        try:
            ended.set_result(await reader.read())
        except ConnectionError:
            ended.set_result(b"broken")
        writer.close()

    async with bench() as b, behind(b, speak), listening(b.cluster) as (_, writer):
        head = f"POST {BASE}/namespaces/x/flunders HTTP/1.1\r\nHost: h\r\n"
        head += "Authorization: Bearer root\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        writer.write(head.encode())
        async with asyncio.timeout(10):
            await begun.wait()
            writer.close()
            # No last chunk: half a body does not pass for a whole one.
            assert b"0\r\n\r\n" not in await ended


async def test_resources_that_go_while_their_apiservice_is_written_leave_none() -> None:
    class Slow(NoJournal):
        held: asyncio.Future[None] | None = None

        def append(self, *batch: Any) -> asyncio.Future[None]:
            return self.held or super().append(*batch)

    journal = Slow()
    async with api_cluster(store=Engine(State(), journal)) as cluster:
        held = journal.held = asyncio.get_running_loop().create_future()
        late = replace(resource("configmaps"), group="late.example.com", storage="/registry/late/")
        cluster.server.resources.add(late)
        await settle()
        cluster.server.resources.remove(late)
        await settle()
        journal.held = None
        held.set_result(None)
        await settle()
        assert (await cluster.http("GET", f"{APISERVICES}/v1.late.example.com")).status == 404
