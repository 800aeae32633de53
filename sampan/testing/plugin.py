"""The pytest plugin: the `cluster` fixture and its marker.

    def test_rollout(cluster):                        # blocking calls, any client by kubeconfig
    async def test_rollout(cluster):                  # the same in the test's own loop
    @pytest.mark.cluster(nodes=3, virtual_time=True)  # three nodes; time moves by cluster.advance
    @pytest.mark.cluster(real=True)                   # `sampan up`: real containers, needs root

Nothing of the cluster is imported until a test asks for it.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .cluster import Cluster, Options
    from .real import RealCluster
    from .threaded import ThreadedCluster

MARKER = "cluster(nodes=1, virtual_time=False, real=False): what the cluster fixture gives a test"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


def _asked(request: pytest.FixtureRequest) -> dict[str, Any]:
    marker = request.node.get_closest_marker("cluster")
    return dict(marker.kwargs) if marker is not None else {}


def _options(request: pytest.FixtureRequest) -> Options:
    from .cluster import Options

    asked = _asked(request)
    asked.pop("real", None)
    return Options(**asked)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster | ThreadedCluster | RealCluster]:
    """A cluster of a fresh state: in the loop of a test that is a coroutine, else in a thread."""
    if _asked(request).get("real"):
        from .real import RealCluster

        with RealCluster.start() as real:
            yield real
    elif inspect.iscoroutinefunction(request.function):
        yield request.getfixturevalue("cluster_in_loop")
    else:
        from .threaded import ThreadedCluster

        with ThreadedCluster.start(_options(request)) as threaded:
            yield threaded


async def _in_loop(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """The cluster in the test's own event loop."""
    from .cluster import Cluster

    async with await Cluster.start(_options(request)) as made:
        yield made


def _fixture_of_coroutines() -> Any:
    """What makes a fixture of an asynchronous generator; without pytest-asyncio, whatever other
    plugin (anyio) runs the coroutines does."""
    try:
        from pytest_asyncio import fixture
    except ImportError:
        return pytest.fixture
    return fixture


cluster_in_loop = _fixture_of_coroutines()(name="cluster_in_loop")(_in_loop)
