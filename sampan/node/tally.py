"""What the agent counts for its /metrics: one object per node, plain additions on the way."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, field

from sampan.wire.exposition import Buckets

from .timings import OPERATION, REQUEST, STORAGE, TIMINGS, Series


class Tally(Struct):
    containers: Counter[str] = field(default_factory=Counter)
    """Started, by kind (container, init_container, ephemeral_container)."""
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Not started, by kind and reason."""
    pods: int = 0
    """Pods whose sandbox was made."""
    failed_pods: int = 0
    restarts: int = 0
    probes: Counter[tuple[str, str, str, str, str, str]] = field(default_factory=Counter)
    """Looks, by kind, result, container, pod, namespace and uid; of pods that are there."""
    timings: dict[str, Series] = field(default_factory=dict)
    """How long things took, by family."""
    errors: Counter[str] = field(default_factory=Counter)
    """Of the container runtime's operations."""
    failed_sandboxes: Counter[str] = field(default_factory=Counter)
    """By the handler of their runtime class."""
    preemptions: Counter[str] = field(default_factory=Counter)
    """Pods that ended for a critical one, by what was short."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Pods that the node did not take, by reason."""
    answers: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    """Of the agent's own server, by method, path, kind of server and whether they go on."""
    answering: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    """Those of the moment."""
    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """To the API, by code, method and host."""
    renewals_failed: Counter[str] = field(default_factory=Counter)
    """Of the node's certificates, by name."""

    def time(self, family: str, seconds: float, *values: str) -> None:
        """Something of that family took so long; `values` are those of its labels."""
        series = self.timings.setdefault(family, {})
        found = series.get(values)
        if found is None:
            found = series[values] = Buckets(TIMINGS[family].bounds)
        found.add(seconds)

    def request(self, host: str, method: str, code: str, seconds: float) -> None:
        """The API has answered."""
        self.requests[code, method, host] += 1
        self.time(REQUEST, seconds, method, host)

    def store(self, plugin: str, operation: str, seconds: float, good: bool) -> None:
        """A volume was mounted, mapped or taken away."""
        ending = "success" if good else "fail-unknown"
        self.time(STORAGE, seconds, plugin, operation, ending, "false")

    def operation(self, name: str, seconds: float, *, failed: bool = False) -> None:
        """Of the container runtime; `name` is the CRI's."""
        self.time(OPERATION, seconds, name)
        if failed:
            self.errors[name] += 1

    def forget(self, uid: str) -> None:
        """A pod is gone, and its probes' figures with it."""
        for key in [key for key in self.probes if key[-1] == uid]:
            del self.probes[key]
