"""A cluster inside a test: the API server and every controller in the test's own process.

`cluster` (plugin.py) is the pytest fixture; `Cluster.start()` serves any other framework. No root,
no containers: pods run on simulated nodes whose outcomes a test scripts. What a test sees is real:
validation, defaulting, admission, garbage collection, scheduling, rollouts.

This is a composition root, like `daemon`: it may import every component, and none imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sampan.node.simulation.outcome import Outcome, matcher

    from .clock import VirtualClock
    from .cluster import Cluster, Options
    from .threaded import ThreadedCluster

__all__ = ["Cluster", "Options", "Outcome", "ThreadedCluster", "VirtualClock", "matcher"]

# Imported when asked for: the pytest plugin is loaded in every test run of whoever has installed
# the package, and costs one that needs no cluster nothing.
PLACES = {
    "Cluster": "sampan.testing.cluster",
    "Options": "sampan.testing.cluster",
    "Outcome": "sampan.node.simulation.outcome",
    "ThreadedCluster": "sampan.testing.threaded",
    "VirtualClock": "sampan.testing.clock",
    "matcher": "sampan.node.simulation.outcome",
}


def __getattr__(name: str) -> Any:
    if name in PLACES:
        from importlib import import_module

        return getattr(import_module(PLACES[name]), name)
    raise AttributeError(name)
