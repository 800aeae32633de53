"""The bench of one test, and kubectl against its cluster."""

from __future__ import annotations

import pytest

from sampan.testing import Cluster
from tests.conformance.bench import Bench


@pytest.fixture
async def bench(cluster_in_loop: Cluster) -> Bench:
    """A whole cluster of a fresh state, in the test's own loop."""
    return Bench(cluster_in_loop)
