"""Ansible's kubernetes.core: a playbook whose second run changes nothing, then its removal."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.cluster import PROGRAMS, Cluster
from tests.kit.cli import BIN

PROGRAM = Path(__file__).parent / "programs"
CHART = Path(__file__).parent / "chart"
TIMEOUT_S = 120


@pytest.fixture
def play(cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path) -> Any:
    """Runs a playbook: its statistics."""
    facts = {
        "namespace": namespace,
        "chart": str(CHART),
        "helm": str(PROGRAMS / "bin/helm-3.17"),
        "machine": cluster.node,
        "ansible_python_interpreter": str(BIN / "python"),
    }
    environment = cluster.environment | {
        "KUBECONFIG": str(kubeconfig),
        "ANSIBLE_COLLECTIONS_PATH": str(PROGRAMS / "collections"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.json",
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
        "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "PYTHONWARNINGS": "ignore",
        "LC_ALL": "C.UTF-8",
    }

    def run(name: str) -> dict[str, Any]:
        command = [str(BIN / "ansible-playbook"), "-i", "localhost,", "-c", "local"]
        done = subprocess.run(
            [*command, "-e", json.dumps(facts), str(PROGRAM / name)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        answer = json.loads(done.stdout[done.stdout.index("{") :])
        wrong = [
            (task["task"]["name"], task["hosts"]["localhost"].get("msg"))
            for task in answer["plays"][0]["tasks"]
            if task["hosts"]["localhost"].get("failed")
        ]
        assert not wrong, wrong
        changed = [
            task["task"]["name"]
            for task in answer["plays"][0]["tasks"]
            if task["hosts"]["localhost"].get("changed")
        ]
        return {"changed": changed, **answer["stats"]["localhost"]}

    return run


def test_playbook(play: Any, cluster: Cluster, namespace: str) -> None:
    first = play("playbook.yaml")
    assert len(first["changed"]) == 6
    assert play("playbook.yaml")["changed"] == []
    assert play("removal.yaml")["failures"] == 0
    assert cluster.user.get("-n", namespace, "deployments")["items"] == []
