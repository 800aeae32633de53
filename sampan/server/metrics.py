"""What the server counts, and its text form (Prometheus exposition, upstream's names).

Counting is a dictionary increment per request; the text is made when it is asked for.
"""

from __future__ import annotations

import os
import resource as process_resource
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sampan.version import GIT_VERSION

from .exchange import Attributes, Request, Response
from .series import Histogram

if TYPE_CHECKING:
    from .app import Server

BUCKETS_S = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
)  # fmt: skip
"""Upstream's, shortened at no bucket's cost to those who compute quantiles."""
SLI_BUCKETS_S = BUCKETS_S[2:]
SIZES = tuple(10.0**power for power in range(3, 10))
"""Bytes."""
MEASURED = frozenset(("GET", "LIST"))
"""Verbs whose answers' sizes are counted."""
LIFETIMES_S = (
    0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000,
    31104000,
)  # fmt: skip

VERBS = {"update": "PUT", "create": "POST", "deletecollection": "DELETECOLLECTION"}
BUILD = {"git_version": GIT_VERSION, "major": "1", "minor": "36"}

STARTED_S = time.time()

Key = tuple[str, str, str, str, str]
"""verb, group, version, resource, subresource."""


class Durations:
    """How long requests of one kind took, and how large their answers were."""

    __slots__ = ("counts", "own", "own_s", "sizes", "total_s")

    def __init__(self, *, sized: bool) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total_s = 0.0
        self.own = [0] * (len(BUCKETS_S) + 1)
        """What to add to `counts` when only the server's own time is counted: 0 throughout while
        nothing waited for others, which costs nothing then."""
        self.own_s = 0.0
        self.sizes = Histogram(SIZES) if sized else None


class Metrics:
    def __init__(self) -> None:
        self.requests: dict[tuple[Key, str, str, int], int] = {}
        self.durations: dict[tuple[Key, str, str], Durations] = {}
        self.lifetimes = Histogram(LIFETIMES_S)
        """What was left of the certificates that requests came with, in seconds."""
        self.watch_events = 0
        self.rejected = 0

    def count(
        self, attributes: Attributes | None, request: Request, answer: Any, seconds: float
    ) -> None:
        """One request answered (for a watch: begun)."""
        dry = _dry_run(request.query["dryRun"]) if "dryRun" in request.query else ""
        status = answer.status if isinstance(answer, Response) else 200
        if attributes is None or attributes.resource is None:
            key: Key = (request.method, "", "", "", "")
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
        counter = (key, scope, dry, status)
        self.requests[counter] = self.requests.get(counter, 0) + 1
        if status == 429:
            self.rejected += 1
        durations = self.durations.get((key, scope, dry))
        if durations is None:
            durations = Durations(sized=key[0] in MEASURED and bool(key[3]))
            self.durations[key, scope, dry] = durations
        bucket = bisect_left(BUCKETS_S, seconds)
        durations.counts[bucket] += 1
        durations.total_s += seconds
        if durations.sizes is not None and isinstance(answer, Response) and answer.body:
            durations.sizes.add(len(answer.body))
        if attributes is not None and attributes.aside_s:
            own_s = max(0.0, seconds - attributes.aside_s)
            durations.own[bucket] -= 1
            durations.own[bisect_left(BUCKETS_S, own_s)] += 1
            durations.own_s += own_s - seconds


def _dry_run(values: Sequence[str]) -> str:
    """The label: what clients make up has no series of its own."""
    return "All" if set(values) == {"All"} else "invalid" if any(values) else ""


def scope_of(attributes: Attributes) -> str:
    # A create is of one object, though its path names none.
    if attributes.name or attributes.verb == "create":
        return "resource"
    return "namespace" if attributes.namespace else "cluster"


def exposition(server: Server) -> bytes:
    """All metrics as text."""
    return ("\n".join(_lines(server)) + "\n").encode()


def _lines(server: Server) -> Iterator[str]:
    metrics = server.metrics
    yield from _head("apiserver_request_total", "counter", "Counter of apiserver requests.")
    for (key, scope, dry, status), count in metrics.requests.items():
        labels = {**_labels(key, scope), "dry_run": dry, "code": str(status)}
        yield _sample("apiserver_request_total", labels, count)
    yield from _duration_lines(metrics)
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


def _duration_lines(metrics: Metrics) -> Iterator[str]:
    """How long requests took, with and without what they waited for, and the answers' sizes."""
    name = "apiserver_request_duration_seconds"
    yield from _head(name, "histogram", "Response latency distribution in seconds.")
    own: dict[tuple[Key, str], tuple[list[int], float]] = {}
    sizes: dict[tuple[Key, str], Histogram] = {}
    for (key, scope, dry), found in metrics.durations.items():
        labels = {**_labels(key, scope), "dry_run": dry}
        yield from _histogram(name, labels, BUCKETS_S, found.counts, found.total_s)
        counts, total_s = own.get((key, scope), ([0] * len(found.counts), 0.0))
        rows = zip(counts, found.counts, found.own, strict=True)
        own[key, scope] = (list(map(sum, rows)), total_s + found.total_s + found.own_s)
        if found.sizes is not None:
            sizes[key, scope] = found.sizes
    name = "apiserver_request_sli_duration_seconds"
    text = "Response latency distribution (not counting webhooks and queues) in seconds."
    yield from _head(name, "histogram", text)
    for (key, scope), (counts, total_s) in own.items():
        less = [sum(counts[:3]), *counts[3:]]
        yield from _histogram(name, _labels(key, scope), SLI_BUCKETS_S, less, total_s)
    name = "apiserver_response_sizes"
    yield from _head(name, "histogram", "Response size distribution in bytes.")
    for (key, scope), size in sizes.items():
        yield from _histogram(name, _labels(key, scope), SIZES, size.counts, size.total)
    name = "apiserver_client_certificate_expiration_seconds"
    text = "Distribution of what is left of the certificates that requests come with."
    yield from _head(name, "histogram", text)
    left = metrics.lifetimes
    yield from _histogram(name, {}, LIFETIMES_S, left.counts, left.total)


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


def _histogram(
    name: str,
    labels: Mapping[str, str],
    bounds: Sequence[float],
    counts: Sequence[int],
    total: float,
) -> Iterator[str]:
    seen = 0
    for bound, count in zip((*(f"{item:g}" for item in bounds), "+Inf"), counts, strict=True):
        seen += count
        yield _sample(f"{name}_bucket", {**labels, "le": bound}, seen)
    yield _sample(f"{name}_sum", labels, round(total, 6))
    yield _sample(f"{name}_count", labels, seen)


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
