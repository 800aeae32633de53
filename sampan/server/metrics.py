"""What the server counts, and its text form (Prometheus exposition, upstream's names).

Counting is a dictionary increment per request; the text is made when it is asked for.
"""

from __future__ import annotations

import os
import resource as process_resource
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sampan.version import GIT_VERSION

from .exchange import Attributes, Response

if TYPE_CHECKING:
    from .app import Server

BUCKETS_S = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
)  # fmt: skip
"""Upstream's, shortened at no bucket's cost to those who compute quantiles."""

VERBS = {"update": "PUT", "create": "POST", "deletecollection": "DELETECOLLECTION"}
BUILD = {"git_version": GIT_VERSION, "major": "1", "minor": "36"}

STARTED_S = time.time()

Key = tuple[str, str, str, str, str]
"""verb, group, version, resource, subresource."""


class Histogram:
    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total_s = 0.0


class Metrics:
    def __init__(self) -> None:
        self.requests: dict[tuple[Key, str, int], int] = {}
        self.durations: dict[tuple[Key, str], Histogram] = {}
        self.watch_events = 0
        self.rejected = 0

    def count(
        self, attributes: Attributes | None, method: str, answer: Any, seconds: float
    ) -> None:
        """One request answered (for a watch: begun)."""
        status = answer.status if isinstance(answer, Response) else 200
        if attributes is None or attributes.resource is None:
            key: Key = (method, "", "", "", "")
            scope = ""
        else:
            target, verb = attributes.resource, attributes.verb
            # What an extension server does not name is the client's invention: no series of it.
            plural = target.plural if target.kind else ""
            # Nor of a subresource that nothing has.
            part = attributes.subresource
            if part and part not in target.subresources:
                part = ""
            key = (
                VERBS.get(verb, verb.upper()),
                target.group,
                target.version,
                plural,
                part,
            )
            scope = scope_of(attributes)
        counter = (key, scope, status)
        self.requests[counter] = self.requests.get(counter, 0) + 1
        if status == 429:
            self.rejected += 1
        histogram = self.durations.get((key, scope))
        if histogram is None:
            histogram = self.durations[key, scope] = Histogram()
        histogram.counts[bisect_left(BUCKETS_S, seconds)] += 1
        histogram.total_s += seconds


def scope_of(attributes: Attributes) -> str:
    if attributes.name:
        return "resource"
    return "namespace" if attributes.namespace else "cluster"


def exposition(server: Server) -> bytes:
    """All metrics as text."""
    return ("\n".join(_lines(server)) + "\n").encode()


def _lines(server: Server) -> Iterator[str]:
    metrics = server.metrics
    yield from _head("apiserver_request_total", "counter", "Counter of apiserver requests.")
    for (key, scope, status), count in metrics.requests.items():
        yield _sample(
            "apiserver_request_total", {**_labels(key, scope), "code": str(status)}, count
        )
    name = "apiserver_request_duration_seconds"
    yield from _head(name, "histogram", "Response latency distribution in seconds.")
    for (key, scope), histogram in metrics.durations.items():
        yield from _histogram(name, _labels(key, scope), histogram)
    reading, mutating = server.in_flight()
    name = "apiserver_current_inflight_requests"
    yield from _head(name, "gauge", "Maximal number of currently used inflight request limit.")
    yield _sample(name, {"request_kind": "readOnly"}, reading)
    yield _sample(name, {"request_kind": "mutating"}, mutating)
    yield from _head("apiserver_longrunning_requests", "gauge", "Active long-running requests.")
    for (key, scope), count in _watches(server).items():
        yield _sample("apiserver_longrunning_requests", _labels(key, scope), count)
    yield from _head("apiserver_watch_events_total", "counter", "Number of events sent in watches.")
    yield _sample("apiserver_watch_events_total", {}, metrics.watch_events)
    yield from _head("apiserver_storage_objects", "gauge", "Number of stored objects by resource.")
    stored = (item for item in reversed(list(server.resources)) if item.storage)
    for target in {item.storage: item for item in stored}.values():
        full = f"{target.plural}.{target.group}" if target.group else target.plural
        if count := server.store.count(target.storage):
            yield _sample("apiserver_storage_objects", {"resource": full}, count)
    yield from _identity_lines(server)
    yield from _head("etcd_mvcc_db_revision", "gauge", "Revision of the last durable write.")
    yield _sample("etcd_mvcc_db_revision", {}, server.store.revision)
    text = "A metric with a constant '1' value labeled by version."
    yield from _head("kubernetes_build_info", "gauge", text)
    yield _sample("kubernetes_build_info", BUILD, 1)
    yield from process_lines()


def _watches(server: Server) -> Counter[tuple[Key, str]]:
    """Those that are open, by what they watch."""
    found: Counter[tuple[Key, str]] = Counter()
    for watcher in server.watchers:
        target = watcher.selection.resource
        key = ("WATCH", target.group, target.version, target.plural, "")
        found[key, "namespace" if watcher.namespace else "cluster"] += 1
    return found


def _identity_lines(server: Server) -> Iterator[str]:
    name = "authentication_attempts"
    yield from _head(name, "counter", "Counter of authenticated attempts.")
    yield _sample(name, {"result": "success"}, server.authn.accepted)
    yield _sample(name, {"result": "failure"}, server.authn.refused)
    tokens = server.authn.tokens
    for word, number in (("stale", tokens.stale), ("valid", tokens.valid)):
        name = f"serviceaccount_{word}_tokens_total"
        yield from _head(
            name, "counter", f"Cumulative {word} projected service account tokens used"
        )
        yield _sample(name, {}, number)
    if server.audit is None:
        return
    written = server.audit.log
    name = "apiserver_audit_event_total"
    yield from _head(name, "counter", "Counter of audit events generated and sent to the backend.")
    yield _sample(name, {}, written.written)
    name = "apiserver_audit_error_total"
    yield from _head(name, "counter", "Counter of audit events that failed to be audited properly.")
    yield _sample(name, {"plugin": "log"}, written.lost)
    if server.audit.webhook is not None:
        yield _sample(name, {"plugin": "webhook"}, server.audit.webhook.lost)


def _labels(key: Key, scope: str) -> dict[str, str]:
    verb, group, version, plural, subresource = key
    return {
        "verb": verb, "group": group, "version": version, "resource": plural,
        "subresource": subresource, "scope": scope, "component": "apiserver",
    }  # fmt: skip


def _histogram(name: str, labels: Mapping[str, str], histogram: Histogram) -> Iterator[str]:
    total = 0
    for bound, count in zip((*BUCKETS_S, "+Inf"), histogram.counts, strict=True):
        total += count
        yield _sample(f"{name}_bucket", {**labels, "le": str(bound)}, total)
    yield _sample(f"{name}_sum", labels, round(histogram.total_s, 6))
    yield _sample(f"{name}_count", labels, total)


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    if not labels:
        return f"{name} {value}"
    inner = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    return f"{name}{{{inner}}} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def process_lines() -> Iterator[str]:
    """process_*, as every Prometheus client library gives them."""
    usage = process_resource.getrusage(process_resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as file:
        pages, resident = file.read().split()[:2]
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    for name, kind, text, value in (
        ("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
         round(usage.ru_utime + usage.ru_stime, 3)),
        ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
         int(resident) * page_bytes),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
         int(pages) * page_bytes),
        ("process_open_fds", "gauge", "Number of open file descriptors.",
         len(os.listdir("/proc/self/fd"))),
        ("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in "
         "seconds.", round(STARTED_S, 2)),
    ):  # fmt: skip
        yield from _head(name, kind, text)
        yield _sample(name, {}, value)
