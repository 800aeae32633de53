"""/metrics by upstream's names, which dashboards and alerts ask for (kubernetes-mixin)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.api.times import format_time
from sampan.node.http import counted
from sampan.node.metrics import expiry_of, metrics_text
from sampan.node.tally import Tally
from sampan.node.timings import IMAGE_PULL, POD_START_SLI, POD_START_TOTAL, size_class
from tests.kit.onenode import PODS, Node, no_server


async def test_a_pods_start_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_server(monkeypatch)
    node = Node(tmp_path)
    async with node.running() as agent:
        node.bind("p")
        await node.until(lambda: node.container("p")["ready"])
        tally = agent.parts.tally
        tally.request("127.0.0.1:6443", "PATCH", "200", 0.003)
        tally.renewals_failed["client"] += 1
        lines = metrics_text(agent).splitlines()
    for line in (
        "kubelet_pod_start_duration_seconds_count 1",
        'kubelet_pod_worker_duration_seconds_count{operation_type="create"} 1',
        'kubelet_run_podsandbox_duration_seconds_count{runtime_handler=""} 1',
        'kubelet_runtime_operations_total{operation_type="create_container"} 1',
        'rest_client_requests_total{code="200",host="127.0.0.1:6443",method="PATCH"} 1',
        "kubelet_certificate_manager_client_expiration_renew_errors 1",
        "kubelet_server_expiration_renew_errors 0",
        'kubelet_working_pods{config="desired",lifecycle="sync",static=""} 1',
        'kubelet_working_pods{config="desired",lifecycle="terminated",static=""} 0',
        "kubelet_mirror_pods 0",
    ):
        assert line in lines
    assert any(line.startswith("kubelet_pod_status_sync_duration_seconds_sum ") for line in lines)


async def test_pulls_do_not_count_as_the_nodes_slowness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PodStartSLIDuration; what ran while something was pulled is left out once."""
    no_server(monkeypatch)
    node = Node(tmp_path)
    async with node.running() as agent:
        now = agent.clock.now()
        monkeypatch.setattr(agent.parts.pulls, "span", lambda uid: (now - 7, now))
        meta = {"name": "p", "namespace": "default", "uid": "uid-p"}
        meta["creationTimestamp"] = format_time(now - 10)
        container = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent"}
        spec = {"nodeName": "n1", "containers": [container]}
        pod = {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}
        node.api.put(f"{PODS}/p", pod)
        await node.until(lambda: node.container("p")["ready"])
        timings = agent.parts.tally.timings
        (total,), (sli,) = timings[POD_START_TOTAL].values(), timings[POD_START_SLI].values()
    assert total.total - sli.total == pytest.approx(7)


def test_pulls_are_labelled_by_size() -> None:
    assert [size_class(size) for size in (0, 1, 10 * 2**20, 2**30, 2**30 + 1, 2**40)] == [
        "N/A", "0-10MB", "0-10MB", "500MB-1GB", "1GB-5GB", "GT100GB",
    ]  # fmt: skip
    tally = Tally()
    tally.time(IMAGE_PULL, 1.0, size_class(5))
    assert tally.timings[IMAGE_PULL]["0-10MB",].counts[0] == 1


def test_requests_are_counted_by_first_words() -> None:
    tally = Tally()
    for path in ("/metrics/cadvisor", "/exec/ns/pod/c", "/etc/passwd"):
        with counted(tally, "GET", path):
            assert sum(tally.answering.values()) == 1
    assert [*tally.answers] == [
        ("GET", "metrics/cadvisor", "readwrite", "false"),
        ("GET", "exec", "readwrite", "true"),
        ("GET", "other", "readwrite", "false"),
    ]


def test_a_certificate_that_cannot_be_read_lasts(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("nothing")
    assert expiry_of(tmp_path / "bad") == expiry_of(tmp_path / "none") == float("inf")
