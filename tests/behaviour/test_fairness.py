"""Priority and fairness: who waits for whom (as upstream's e2e apimachinery/flowcontrol.go)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sampan.server.connection import Connection
from sampan.server.exchange import Attributes, User
from sampan.server.fairness import fairness
from sampan.server.listeners import Listeners
from tests.kit.cluster import Cluster, api_cluster

GROUP = "/apis/flowcontrol.apiserver.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
EVERYBODY = "system:authenticated"
GREEDY = User("greedy", (EVERYBODY,))
MODEST = User("modest", (EVERYBODY,))
TOKENS = {"greedy": GREEDY, "modest": MODEST}
CLIENTS = 200


async def let_in(cluster: Cluster) -> None:
    """Let every user read and write, without making them exempt."""
    binding = {
        "metadata": {"name": "all"},
        "subjects": [{"kind": "Group", "name": EVERYBODY,
                      "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "cluster-admin",
                    "apiGroup": "rbac.authorization.k8s.io"},
    }  # fmt: skip
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    assert (await cluster.http("POST", path, binding)).status == 201


@asynccontextmanager
async def served(objects: int = 0) -> AsyncIterator[tuple[Cluster, int]]:
    """A server behind a socket, with something to list."""
    async with api_cluster(tokens=TOKENS) as cluster:
        await let_in(cluster)
        for number in range(objects):
            body = {"metadata": {"name": f"m{number}"}, "data": {"text": "x" * 200}}
            await cluster.http("POST", MAPS, body)
        shared = Listeners(cluster.server)
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: Connection(shared), "127.0.0.1", 0)
        try:
            yield cluster, listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            for connection in tuple(shared.connections):
                connection._transport.abort()
            await asyncio.sleep(0)


def get(path: str, token: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), headers


def listed(cluster: Cluster) -> int:
    """How many lists have been answered."""
    return sum(
        count for (key, *_), count in cluster.server.metrics.requests.items()
        if key[0] == "LIST" and key[3] == "configmaps"
    )  # fmt: skip


async def overtaken(cluster: Cluster, port: int, *, pipelined: bool) -> list[int]:
    """How many of the greedy client's lists are answered before a get that came after all of
    them, several times over."""
    connections = 1 if pipelined else CLIENTS
    each = 60 if pipelined else 1
    # Each list is work, since no index answers its selector; and small, since a client that does
    # not read what it asked for is not answered further.
    request = get(f"{MAPS}?labelSelector=a!%3Db,c", "greedy") * each
    greedy = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = []
    try:
        for _ in range(3):
            before = listed(cluster)
            for _, other in greedy:
                other.write(request)
            writer.write(get(f"{MAPS}/m1", "modest"))
            status, _ = await answer(reader)
            found.append(listed(cluster) - before)
            assert status == 200
            for other_reader, _ in greedy:
                for _ in range(each):
                    assert (await answer(other_reader))[0] == 200
    finally:
        for _, other in [*greedy, (reader, writer)]:
            other.close()
    return found


@pytest.mark.parametrize("pipelined", [False, True])
async def test_a_greedy_client_does_not_slow_the_others(pipelined: bool) -> None:
    async with served(objects=300) as (cluster, port):
        assert max(await overtaken(cluster, port, pipelined=pipelined)) <= 40


@pytest.mark.parametrize("pipelined", [False, True])
async def test_without_turns_everybody_waits_for_the_greedy(
    pipelined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fairness.Fairness, "spend", lambda self, seconds: None)
    async with served(objects=300) as (cluster, port):
        assert min(await overtaken(cluster, port, pipelined=pipelined)) >= 50


async def test_answers_name_schema_and_level() -> None:
    async with served() as (cluster, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get(MAPS, "modest"))
        _, headers = await answer(reader)
        schema = (await cluster.http("GET", f"{GROUP}/flowschemas/global-default")).json
        level = await cluster.http("GET", f"{GROUP}/prioritylevelconfigurations/global-default")
        assert headers["x-kubernetes-pf-flowschema-uid"] == schema["metadata"]["uid"]
        assert headers["x-kubernetes-pf-prioritylevel-uid"] == level.json["metadata"]["uid"]
        writer.close()


async def test_what_every_cluster_has() -> None:
    async with api_cluster() as cluster:
        table = "application/json;as=Table;g=meta.k8s.io;v=v1"
        rows = (await cluster.http("GET", f"{GROUP}/flowschemas", accept=table)).json["rows"]
        cells = {row["cells"][0]: row["cells"] for row in rows}
        assert len(cells) == 13
        assert cells["probes"][1:4] == ["exempt", 2, "<none>"]
        assert cells["system-node-high"][1:4] == ["node-high", 400, "ByUser"]
        assert cells["global-default"][5] == "False"
        levels = (await cluster.http("GET", f"{GROUP}/prioritylevelconfigurations")).json["items"]
        assert len(levels) == 8
        # Nobody changes the mandatory; the suggested come back as they were unless told otherwise.
        spec = {"spec": {"limited": {"nominalConcurrencyShares": 77}}}
        path = f"{GROUP}/prioritylevelconfigurations"
        refused = await cluster.http("PATCH", f"{path}/catch-all", spec, content_type=MERGE)
        assert refused.message.endswith("spec of 'catch-all' must equal the fixed value")
        for name in ("system", "workload-low"):
            body: dict[str, Any] = dict(spec)
            if name != "system":
                note = {"apf.kubernetes.io/autoupdate-spec": "false"}
                body["metadata"] = {"annotations": note}
            said = await cluster.http("PATCH", f"{path}/{name}", body, content_type=MERGE)
            assert said.status == 200, said.message
        await cluster.http("DELETE", f"{path}/node-high")
        async with api_cluster(store=cluster.store) as again:
            shares = {
                item["metadata"]["name"]:
                    (item["spec"].get("limited") or {}).get("nominalConcurrencyShares")
                for item in (await again.http("GET", path)).json["items"]
            }  # fmt: skip
        assert shares["catch-all"] == 5
        assert shares["system"] == 30
        assert shares["workload-low"] == 77
        assert shares["node-high"] == 40


async def test_a_schema_of_ones_own() -> None:
    async with api_cluster(tokens=TOKENS) as cluster:
        await let_in(cluster)
        schema = {
            "metadata": {"name": "mine"},
            "spec": {
                "matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "mine"},
                "rules": [{"subjects": [{"kind": "User", "user": {"name": "greedy"}}],
                           "resourceRules": [{"verbs": ["create"], "apiGroups": [""],
                                              "resources": ["configmaps"],
                                              "namespaces": ["*"]}]}],
            },
        }  # fmt: skip
        assert (await cluster.http("POST", f"{GROUP}/flowschemas", schema)).status == 201

        async def dangling(reason: str) -> None:
            path = f"{GROUP}/flowschemas?watch=true&fieldSelector=metadata.name=mine"
            async with asyncio.timeout(5):
                async for event in cluster.stream(path):
                    conditions = event["object"].get("status", {}).get("conditions") or ()
                    if any(item["reason"] == reason for item in conditions):
                        return

        await dangling("NotFound")
        level = {"metadata": {"name": "mine"}, "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Queue", "queuing": {
                "queues": 1, "handSize": 1, "queueLengthLimit": 3}}}}}  # fmt: skip
        path = f"{GROUP}/prioritylevelconfigurations"
        assert (await cluster.http("POST", path, level)).status == 201
        await dangling("Found")

        gate = asyncio.Event()
        admit = cluster.server.admission.admit

        async def wait(write: Any) -> None:
            await gate.wait()
            await admit(write)

        cluster.server.admission.admit = wait  # type: ignore[method-assign]

        async def create(name: str) -> Any:
            return await cluster.http("POST", MAPS, {"metadata": {"name": name}}, user=GREEDY)

        tasks = [asyncio.create_task(create(f"m{number}")) for number in range(4)]
        for _ in range(20):
            await asyncio.sleep(0)
        # One seat, three in the queue; the fifth is refused. Others do not notice.
        full = await create("m5")
        assert (full.status, full.headers["Retry-After"]) == (429, "1")
        assert full.message == "Too many requests, please try again later."
        assert (await cluster.http("GET", MAPS, user=GREEDY)).status == 200
        root = "/debug/api_priority_and_fairness"
        dump = (await cluster.http("GET", f"{root}/dump_priority_levels")).body.decode()
        line = next(item for item in dump.splitlines() if item.startswith("mine"))
        cells = [item.strip() for item in line.split(",")]
        assert cells[:6] == ["mine", "1", "false", "false", "3", "1"]
        queues = (await cluster.http("GET", f"{root}/dump_queues")).body.decode()
        assert "mine" in queues
        waiting = (await cluster.http("GET", f"{root}/dump_requests?includeRequestDetails=1")).body
        rows = [item for item in waiting.decode().splitlines() if item.startswith("mine")]
        assert len(rows) == 3
        assert "greedy" in rows[0]
        metrics = (await cluster.http("GET", "/metrics")).body.decode()
        both = 'flow_schema="mine",priority_level="mine"'
        assert f"apiserver_flowcontrol_current_inqueue_requests{{{both}}} 3" in metrics
        assert f"apiserver_flowcontrol_current_executing_requests{{{both}}} 1" in metrics
        for name in ("upper_limit_seats", "current_limit_seats"):
            assert f'apiserver_flowcontrol_{name}{{priority_level="mine"}} ' in metrics
        labels = 'flow_schema="mine",priority_level="mine",reason="queue-full"'
        assert f"apiserver_flowcontrol_rejected_requests_total{{{labels}}} 1" in metrics
        # One that waits goes away; the others get their turn.
        tasks.pop(2).cancel()
        gate.set()
        done = await asyncio.gather(*tasks)
        assert [item.status for item in done] == [201] * 3
        state = cluster.server.fairness.levels["mine"]
        assert (state.seats, state.executing, state.waiting) == (0, 0, 0)
        assert state.running.total() == 0


async def test_a_level_without_queues_refuses_only_what_finds_no_seat() -> None:
    async with api_cluster(tokens=TOKENS) as cluster:
        server, stranger = cluster.server, User("stranger")
        state = server.fairness.levels["catch-all"]
        # A turn that is over is no reason to refuse: reads and writes wait for the next one.
        for method in ("GET", "POST"):
            server.fairness.spend(fairness.TURN_S * 2)
            assert server.fairness.contended
            body = {"metadata": {"name": "m"}} if method == "POST" else None
            denied = await cluster.http(method, MAPS, body, user=stranger)
            assert denied.status == 403, method
        assert (state.seats, state.executing, state.waiting) == (0, 0, 0)
        # But there is no waiting for a seat.
        state.seats, state.most, state.lendable = state.nominal, state.nominal, 0
        server.fairness.spend(fairness.TURN_S * 2)
        full = await cluster.http("POST", MAPS, {"metadata": {"name": "m"}}, user=stranger)
        assert full.status == 429
        metrics = (await cluster.http("GET", "/metrics")).body.decode()
        assert 'priority_level="catch-all",reason="concurrency-limit"' in metrics
        state.seats = 0


async def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "WAIT_S", 0.02)
    async with api_cluster(tokens=TOKENS) as cluster:
        await let_in(cluster)
        state = cluster.server.fairness.levels["global-default"]
        state.seats = state.most = 1
        state.lendable = state.nominal
        late = await cluster.http("POST", MAPS, {"metadata": {"name": "m"}}, user=MODEST)
        assert late.status == 429
        state.seats = 0
        made = await cluster.http("POST", MAPS, {"metadata": {"name": "m"}}, user=MODEST)
        assert made.status == 201


@pytest.mark.parametrize("seats", [0, 1])
async def test_a_turn_that_comes_as_the_wait_ends_keeps_no_seat(
    monkeypatch: pytest.MonkeyPatch, seats: int
) -> None:
    """Seats that nobody gives back would be fewer for ever."""
    monkeypatch.setattr(fairness, "WAIT_S", 0.0)
    async with api_cluster(tokens=TOKENS) as cluster:
        flows = cluster.server.fairness
        asked = Attributes(MODEST, "create")
        flow = flows.classify(asked)

        async def answer() -> str:
            return "answered"

        waiting = asyncio.create_task(flows.later(flow, asked, seats, answer))
        # In the turn in which its time is up, and before that is heard.
        asyncio.get_running_loop().call_soon(flows._serve)
        assert await waiting == "answered"
        assert (flow.level.seats, flow.level.executing, flow.level.waiting) == (0, 0, 0)


async def test_an_answer_whose_client_left_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    async with api_cluster(tokens=TOKENS) as cluster:
        flows = cluster.server.fairness
        asked = Attributes(MODEST, "create")
        flow = flows.classify(asked)
        made = []

        async def answer() -> None:
            raise AssertionError("nobody is there to hear it")

        def run() -> Any:
            made.append(answer())
            return made[0]

        waiting = asyncio.create_task(flows.later(flow, asked, 1, run))
        await asyncio.sleep(0)
        flows._serve()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED
        assert (flow.level.seats, flow.level.executing, flow.level.waiting) == (0, 0, 0)
