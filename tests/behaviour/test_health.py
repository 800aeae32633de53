"""Health checks and metrics: what probes and Prometheus read."""

from __future__ import annotations

import re

import pytest

from sampan.aio.tasks import Supervisor
from sampan.server.exchange import ANONYMOUS, Attributes, Request, Response, User
from tests.kit.clock import FakeClock, settle
from tests.kit.cluster import api_cluster

CM = "/api/v1/namespaces/default/configmaps"


async def test_checks_by_themselves_and_together() -> None:
    async with api_cluster() as cluster:
        for path in ("/healthz", "/livez", "/readyz"):
            answer = await cluster.http("GET", path, user=ANONYMOUS)
            assert (answer.status, answer.body) == (200, b"ok")
        for path in ("/livez/ping", "/readyz/etcd"):
            assert (await cluster.http("GET", path)).body == b"ok"
        verbose = (await cluster.http("GET", "/readyz?verbose")).body.decode()
        assert "[+]ping ok\n" in verbose
        assert verbose.endswith("readyz check passed\n")
        without = (await cluster.http("GET", "/livez?verbose&exclude=etcd&exclude=x")).body.decode()
        assert "[+]etcd excluded: ok" in without
        assert 'no matches for "x"' in without
        assert (await cluster.http("GET", "/livez/nonsense")).status == 404
        assert (await cluster.http("POST", "/livez")).status == 405


async def test_a_store_that_takes_no_writes_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async with api_cluster() as cluster:
        trouble = "the store has failed: no space left on device"
        monkeypatch.setattr(cluster.server.store, "trouble", lambda: trouble)
        for path in ("/healthz", "/livez", "/readyz"):
            answer = await cluster.http("GET", path)
            assert answer.status == 500
            assert b"[-]etcd failed: reason withheld\n" in answer.body
        one = await cluster.http("GET", "/readyz/etcd")
        assert (one.status, one.body) == (500, f"internal server error: {trouble}\n".encode())


async def test_a_server_that_ends_is_alive_but_not_ready() -> None:
    async with api_cluster() as cluster:
        await cluster.server.close()
        ready = await cluster.http("GET", "/readyz")
        assert ready.status == 500
        assert b"[-]shutdown failed: reason withheld" in ready.body
        assert (await cluster.http("GET", "/livez")).status == 200


async def test_how_the_parts_are() -> None:
    async with api_cluster() as cluster:
        path = "/api/v1/componentstatuses"
        said = {"scheduler": ""}
        cluster.server.parts["scheduler"] = lambda: said["scheduler"]
        answer = await cluster.http("GET", path)
        assert answer.headers["Warning"] == '299 - "v1 ComponentStatus is deprecated in v1.19+"'
        assert answer.json["kind"] == "ComponentStatusList"
        found = {item["metadata"]["name"]: item["conditions"] for item in answer.json["items"]}
        well = [{"type": "Healthy", "status": "True", "message": "ok"}]
        assert found.pop("scheduler") == found.pop("etcd-0") == well
        # Nobody said that there are controllers.
        assert found["controller-manager"][0]["status"] == "False"
        assert "connect: connection refused" in found["controller-manager"][0]["message"]
        said["scheduler"] = "scheduler: boom"
        form = "application/json;as=Table;v=v1;g=meta.k8s.io"
        query = "fieldSelector=metadata.name=scheduler"
        table = (await cluster.http("GET", f"{path}?{query}", accept=form)).json
        assert [row["cells"] for row in table["rows"]] == [
            ["scheduler", "Unhealthy", "scheduler: boom", ""]
        ]
        one = (await cluster.http("GET", f"{path}/etcd-0")).json
        assert (one["kind"], one["conditions"]) == ("ComponentStatus", well)
        assert (await cluster.http("GET", f"{path}/x")).status == 404
        assert (await cluster.http("GET", f"{path}?watch=true")).status == 405
        assert (await cluster.http("DELETE", f"{path}/scheduler")).status == 405


async def test_a_task_that_waits_to_be_started_again_is_in_trouble() -> None:
    clock = FakeClock()
    supervisor = Supervisor(clock)
    left = [RuntimeError("boom")]

    async def run() -> None:
        if left:
            raise left.pop()

    task = supervisor.start("scheduler", run)
    await settle()
    assert supervisor.trouble("scheduler") == "scheduler: boom"
    assert supervisor.trouble("controller ") == ""
    await clock.advance(60)
    await task
    assert supervisor.trouble("") == ""


async def test_metrics_count_what_was_asked() -> None:
    async with api_cluster() as cluster:
        for _ in range(3):
            await cluster.http("GET", f"{CM}/none")
        text = (await cluster.http("GET", "/metrics")).body.decode()
        labels = (
            'verb="GET",group="",version="v1",resource="configmaps",subresource="",'
            'scope="resource",component="apiserver"'
        )
        assert f'apiserver_request_total{{{labels},dry_run="",code="404"}} 3\n' in text
        name = "apiserver_request_duration_seconds"
        assert f'{name}_bucket{{{labels},dry_run="",le="+Inf"}} 3\n' in text
        assert f'{name}_count{{{labels},dry_run=""}} 3\n' in text
        # Rules of others ask for buckets as Go writes their bounds.
        assert f'apiserver_request_sli_duration_seconds_bucket{{{labels},le="1"}} 3\n' in text
        assert f'apiserver_response_sizes_bucket{{{labels},le="1e+06"}} 3\n' in text
        for metric in (
            'apiserver_current_inflight_requests{request_kind="mutating"} 0',
            'apiserver_storage_objects{resource="namespaces"} 4',
            "process_resident_memory_bytes ",
        ):
            assert metric in text
        sample = re.compile(r'^[a-z_]+(\{([a-z_]+="[^"]*",?)+\})? [0-9.e+-]+$')
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert all(sample.match(line) for line in lines)
        assert len(lines) == len({line.rsplit(" ", 1)[0] for line in lines})
        stream = cluster.stream(f"{CM}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true"
                                "&resourceVersionMatch=NotOlderThan")  # fmt: skip
        await anext(stream)
        text = (await cluster.http("GET", "/metrics")).body.decode()
        watched = labels.replace("GET", "WATCH").replace('resource",comp', 'namespace",comp')
        assert f"apiserver_longrunning_requests{{{watched}}} 1\n" in text
        await stream.aclose()


async def test_pages_for_people() -> None:
    """/statusz and /flagz, on since 1.36: text, or JSON for who asks for it; not for everybody."""
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        await clock.advance(3_725)
        plain = (await cluster.http("GET", "/statusz")).body.decode()
        assert plain.startswith("\nkube-apiserver statusz\nWarning: This endpoint is not meant to")
        assert "1 hr 02 min 05 sec" in plain
        wanted = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz"
        told = (await cluster.http("GET", "/statusz", accept=wanted)).json
        assert (told["kind"], told["apiVersion"]) == ("Statusz", "config.k8s.io/v1beta1")
        assert (told["uptimeSeconds"], told["metadata"]) == (3_725, {"name": "kube-apiserver"})
        flags = (
            await cluster.http("GET", "/flagz", accept=wanted.replace("Statusz", "Flagz"))
        ).json
        assert flags["flags"]["service-cluster-ip-range"] == "10.96.0.0/12"
        assert b"service-node-port-range" in (await cluster.http("GET", "/flagz")).body
        assert (await cluster.http("GET", "/flagz", accept=wanted)).status == 406
        bob = User("bob", ("system:authenticated",))
        assert (await cluster.http("GET", "/statusz", user=bob)).status == 403
        watcher = User("w", ("system:monitoring", "system:authenticated"))
        assert (await cluster.http("GET", "/flagz", user=watcher)).status == 200


async def test_what_a_request_waited_for_is_not_the_servers_own_time() -> None:
    async with api_cluster() as cluster:
        metrics = cluster.server.metrics
        resource = next(item for item in cluster.server.resources if item.plural == "configmaps")
        plain = Attributes(ANONYMOUS, "create", resource, "", "default")
        waited = Attributes(ANONYMOUS, "create", resource, "", "default", aside_s=2.0)
        for attributes, query in ((plain, {}), (waited, {}), (waited, {"dryRun": ["All"]})):
            request = Request("POST", CM, query, {}, b"")
            metrics.count(attributes, request, Response(201, b"{}"), 2.06)
        text = (await cluster.http("GET", "/metrics")).body.decode()
        labels = (
            'verb="POST",group="",version="v1",resource="configmaps",subresource="",'
            'scope="resource",component="apiserver"'
        )
        whole, own = (f"apiserver_request{part}_duration_seconds" for part in ("", "_sli"))
        for line in (
            f'{whole}_bucket{{{labels},dry_run="",le="2"}} 0',
            f'{whole}_bucket{{{labels},dry_run="",le="3"}} 2',
            f'{whole}_count{{{labels},dry_run="All"}} 1',
            f'{own}_bucket{{{labels},le="0.05"}} 0',
            f'{own}_bucket{{{labels},le="0.1"}} 2',
            f'{own}_bucket{{{labels},le="2"}} 2',
            f'{own}_bucket{{{labels},le="3"}} 3',
            f"{own}_sum{{{labels}}} 2.18",
            f"{own}_count{{{labels}}} 3",
        ):
            assert f"{line}\n" in text
        assert f"apiserver_response_sizes_count{{{labels}}}" not in text
