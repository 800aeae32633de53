"""What the proxy counts, under kube-proxy's names: a few additions a change or transaction."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from sampan.api.errors import Object
from sampan.api.times import TimeError, parse_time
from sampan.version import GIT_VERSION
from sampan.wire.exposition import Buckets

TRIGGERED = "endpoints.kubernetes.io/last-change-trigger-time"
# Changes whose time is kept until they are in the kernel; more is a flood, of which some will do.
MAX_TRIGGERS = 10_000
# pkg/proxy/metrics: of rules, and of what the network takes from a change on.
_RULES_S = tuple(0.001 * 2**n for n in range(15))
_NETWORK_S = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))


class Metrics:
    """Of one node's proxy."""

    def __init__(self, families: Sequence[str], now: Callable[[], float] = time.time) -> None:
        """`families` are the names of those that there are rules for."""
        self._families = families
        self._now = now
        self._began = now()
        self._changes: Counter[str] = Counter()
        self._pending: Counter[str] = Counter()
        self._triggers: list[float] = []
        self._durations: dict[tuple[str, str], Buckets] = {}
        self._network = {name: Buckets(_NETWORK_S) for name in self._families}
        self._failures: Counter[str] = Counter()
        self._synced: dict[str, float] = {}
        self._under_way: list[float] = []
        self._since, self._since_under_way = 0.0, 0.0
        self._last_queued = 0.0
        self._flows: Counter[str] = Counter()
        self._flows_s = {name: Buckets(_RULES_S) for name in self._families}

    def service_changed(self) -> None:
        self._note("service")

    def slice_changed(self, item: Object | None) -> None:
        """None for one that is gone."""
        self._note("endpoint")
        notes = item["metadata"].get("annotations") if item is not None else None
        when = notes.get(TRIGGERED) if notes else None
        if when and len(self._triggers) < MAX_TRIGGERS:
            try:
                at = parse_time(when)
            except TimeError:
                return
            # What was there before the proxy says nothing of it.
            if at > self._began:
                self._triggers.append(at)

    def _note(self, what: str) -> None:
        self._changes[what] += 1
        self._pending[what] += 1
        self._last_queued = self._now()
        self._since = self._since or self._last_queued

    @property
    def waiting_since(self) -> float:
        """Of the change that has waited longest for the kernel; 0 when none does."""
        return self._since_under_way or self._since

    def planned(self) -> None:
        """All changes up to now are on their way to the kernel."""
        self._under_way += self._triggers
        self._triggers.clear()
        self._pending.clear()
        self._since_under_way, self._since = self.waiting_since, 0.0

    def synced(self, family: str, seconds: float, *, whole: bool) -> None:
        """A transaction is in the kernel."""
        for kind in ("", "full_" if whole else "partial_"):
            found = self._durations.get((kind, family))
            if found is None:
                found = self._durations[kind, family] = Buckets(_RULES_S)
            found.add(seconds)

    def settled(self) -> None:
        """What was planned is in the kernel, in all families."""
        now = self._now()
        for at in self._under_way:
            for buckets in self._network.values():
                buckets.add(max(0.0, now - at))
        self._under_way.clear()
        self._since_under_way = 0.0
        self._synced = dict.fromkeys(self._families, now)

    def failed(self, family: str) -> None:
        """A transaction was refused."""
        self._failures[family] += 1

    def forgot(self, count: int, seconds: float) -> None:
        """Flows of UDP, of all families at once."""
        family = self._families[0]
        self._flows[family] += count
        self._flows_s[family].add(seconds)

    def lines(self, unserved: Mapping[tuple[str, str], int]) -> Iterator[str]:
        """Prometheus' text. `unserved`: by family and policy (internal, external), how many ports
        of services are served by other nodes alone although only this one's should serve."""
        families = self._families
        yield "# TYPE kubernetes_build_info gauge"
        yield f'kubernetes_build_info{{git_version="{GIT_VERSION}",major="1",minor="36"}} 1'
        for kind in ("", "full_", "partial_"):
            name = f"kubeproxy_sync_{kind}proxy_rules_duration_seconds"
            yield f"# TYPE {name} histogram"
            for (which, family), buckets in sorted(self._durations.items()):
                if which == kind:
                    yield from buckets.lines(name, f'ip_family="{family}"')
        for name, found in (
            ("kubeproxy_network_programming_duration_seconds", self._network),
            ("kubeproxy_conntrack_reconciler_sync_duration_seconds", self._flows_s),
        ):
            yield f"# TYPE {name} histogram"
            for family, buckets in found.items():
                yield from buckets.lines(name, f'ip_family="{family}"')
        yield from _plain("conntrack_reconciler_deleted_entries_total", "counter", {
            family: self._flows[family] for family in families})  # fmt: skip
        for what in ("endpoint", "service"):
            name = f"kubeproxy_sync_proxy_rules_{what}_changes"
            yield f"# TYPE {name}_pending gauge"
            yield f"{name}_pending {self._pending[what]}"
            yield f"# TYPE {name}_total counter"
            yield f"{name}_total {self._changes[what]}"
        yield from _plain("sync_proxy_rules_nftables_sync_failures_total", "counter", {
            family: self._failures[family] for family in families})  # fmt: skip
        # What is stale goes in the same transactions.
        yield from _plain("sync_proxy_rules_nftables_cleanup_failures_total", "counter",
                          dict.fromkeys(families, 0))  # fmt: skip
        yield from _plain("sync_proxy_rules_last_queued_timestamp_seconds", "gauge",
                          dict.fromkeys(families, self._last_queued))  # fmt: skip
        yield from _plain("sync_proxy_rules_last_timestamp_seconds", "gauge", self._synced)
        name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
        yield f"# TYPE {name} gauge"
        for family in families:
            for policy in ("external", "internal"):
                labels = f'ip_family="{family}",traffic_policy="{policy}"'
                yield f"{name}{{{labels}}} {unserved.get((family, policy), 0)}"


def _plain(name: str, kind: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# TYPE kubeproxy_{name} {kind}"
    for family, value in values.items():
        yield f'kubeproxy_{name}{{ip_family="{family}"}} {value:.16g}'
