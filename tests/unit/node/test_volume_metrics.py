"""What /metrics says of volumes (test/e2e/storage/volume_metrics.go)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.node.metrics import metrics_text
from sampan.node.volumes.plugins import plugin_of
from tests.kit.onenode import Node, no_server

HOW = 'migrated="false",operation_name="{}",status="{}",volume_plugin="kubernetes.io/{}"'
STATES = ("actual_state_of_world", "desired_state_of_world")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({"name": "v", "emptyDir": {}}, "empty-dir"),
        ({"name": "v", "csi": {"driver": "d"}}, "csi:d"),
        ({"capacity": {}, "local": {"path": "/x"}}, "local-volume"),
        ({"name": "v", "projected": {}}, "projected"),
        ({"name": "v", "persistentVolumeClaim": {}}, "persistent-claim"),
    ],
)
def test_plugins_have_upstreams_names(source: dict[str, object], name: str) -> None:
    assert plugin_of(source) == f"kubernetes.io/{name}"


async def test_volumes_are_counted_and_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_server(monkeypatch)
    node = Node(tmp_path)
    async with node.running() as agent:
        node.bind("good", volumes=[{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}])
        await node.until(lambda: node.container("good")["ready"])
        node.bind("bad", volumes=[{"name": "v", "configMap": {"name": "none"}}])
        await node.until(lambda: "FailedMount" in node.reasons())
        lines = metrics_text(agent).splitlines()
        count = "storage_operation_duration_seconds_count"
        assert f"{count}{{{HOW.format('volume_mount', 'success', 'empty-dir')}}} 2" in lines
        assert f"{count}{{{HOW.format('volume_mount', 'fail-unknown', 'configmap')}}} 1" in lines
        total = "volume_manager_total_volumes"
        for state in STATES:
            labels = f'plugin_name="kubernetes.io/empty-dir",state="{state}"'
            assert f"{total}{{{labels}}} 2" in lines
        labels = f'plugin_name="kubernetes.io/configmap",state="{STATES[1]}"'
        assert [line for line in lines if line.startswith(total) and "configmap" in line] == [
            f"{total}{{{labels}}} 1"
        ]
        node.delete("good", 0)
        await node.until(lambda: not node.runtime.containers)
        taken = f"{count}{{{HOW.format('volume_unmount', 'success', 'empty-dir')}}} 2"
        await node.until(lambda: taken in metrics_text(agent).splitlines())
