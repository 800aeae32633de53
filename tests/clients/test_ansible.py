"""Ansible's kubernetes.core: a playbook whose second run changes nothing, then its removal."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.cluster import PROGRAMS, Cluster
from tests.kit.cli import BIN

PROGRAM = Path(__file__).parent / "programs"
CHART = Path(__file__).parent / "chart"
CHANGED = re.compile(r"^TASK \[(.*)\] \**\n(?:.*\n)??changed: \[localhost\]", re.M)
TIMEOUT_S = 120


@pytest.fixture
def play(cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path) -> Any:
    """Runs a playbook: the names of the tasks that changed something."""
    facts = {
        "space": namespace,
        "chart": str(CHART),
        "helm": str(PROGRAMS / "bin/helm-3.17"),
        "machine": cluster.node,
        "ansible_python_interpreter": str(BIN / "python"),
    }
    environment = cluster.environment | {
        "KUBECONFIG": str(kubeconfig),
        "ANSIBLE_COLLECTIONS_PATH": str(PROGRAMS / "collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
        "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "PYTHONWARNINGS": "ignore",
        "LC_ALL": "C.UTF-8",
    }

    def run(name: str) -> list[str]:
        command = [str(BIN / "ansible-playbook"), "-i", "localhost,", "-c", "local"]
        done = subprocess.run(
            [*command, "-e", json.dumps(facts), str(PROGRAM / name)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return CHANGED.findall(done.stdout)

    return run


def test_playbook(play: Any, cluster: Cluster, namespace: str) -> None:
    assert play("playbook.yaml") == [
        "a config map",
        "applied by the server",
        "applied by the client",
        "a deployment, waited for",
        "scaled",
        "a chart",
    ]
    assert play("playbook.yaml") == []
    assert "back to the first" in play("removal.yaml")
    assert cluster.user.get("-n", namespace, "deployments")["items"] == []
