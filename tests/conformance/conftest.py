"""The bench of one test, and kubectl against its cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.testing import Cluster
from tests.conformance.bench import Bench
from tests.conformance.kubectl import Kubectl


@pytest.fixture
async def bench(cluster_in_loop: Cluster) -> Bench:
    """A whole cluster of a fresh state, in the test's own loop."""
    return Bench(cluster_in_loop)


@pytest.fixture
def kubectl(bench: Bench, tmp_path: Path) -> Kubectl:
    """kubectl, as the administrator of the test's cluster."""
    return Kubectl(bench.cluster.kubeconfig, tmp_path)
