"""@kubernetes/client-node: objects, apply, watch, informer, exec, logs, port-forward, metrics."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.cluster import PROGRAMS, Cluster

LIBRARY = PROGRAMS / "node/node_modules/@kubernetes/client-node/dist/index.js"
PROGRAM = Path(__file__).parent / "programs/client.mjs"
FLOWS = re.findall(r"^  async (\w+)\(\) \{", PROGRAM.read_text(), re.M)
NAMESPACE = "client-node"
TIMEOUT_S = 90


@pytest.fixture(scope="module")
def outcomes(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str | None]]:
    """What came of every flow: they run together in one process."""
    assert LIBRARY.exists(), "make clients"
    kubeconfig = cluster.kubeconfig(NAMESPACE, tmp_path_factory.mktemp("node") / "config")
    with cluster.namespace(NAMESPACE):
        run = subprocess.run(
            ["node", str(PROGRAM), LIBRARY.as_uri(), NAMESPACE],
            env=cluster.environment | {"KUBECONFIG": str(kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        assert run.returncode == 0, run.stderr
        yield json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("flow", FLOWS)
def test_flow(outcomes: dict[str, str | None], flow: str) -> None:
    if wrong := outcomes[flow]:
        pytest.fail(wrong, pytrace=False)
