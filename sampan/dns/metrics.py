"""What the name server counts, under CoreDNS's names.

Counting is on the way of each answer. What answers to the same question have in common is found
out once (`Note`); the rest is a bisection, a fraction of a microsecond.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct, field

from sampan.aio.pages import NOTHING, response
from sampan.version import VERSION
from sampan.wire.exposition import CONTENT_TYPE, Buckets

from .message import Code, Kind

# Buckets of CoreDNS (plugin/metrics/vars, plugin.TimeBuckets).
_SECONDS = tuple(0.00025 * 2**n for n in range(16))
# So many kinds of answers are counted apart before they are added up.
_PENDING = 10_000
_BYTES = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)
# What of CoreDNS's own parts there is here.
_PLUGINS = ("autopath", "cache", "errors", "forward", "kubernetes", "loadbalance", "loop")
_SERVER = 'server="dns://:53"'
_ZONE = f'{_SERVER},view="",zone="."'
# What CoreDNS tells apart (plugin/pkg/.../vars/monitor.go); all else is "other".
_TYPES = {kind.value: kind.name for kind in Kind if kind != Kind.OPT} | {15: "MX", 13: "HINFO"}
_CODES = {
    Code.OK: "NOERROR", Code.FORMAT: "FORMERR", Code.SERVER_FAILURE: "SERVFAIL",
    Code.NO_NAME: "NXDOMAIN", Code.NOT_IMPLEMENTED: "NOTIMP", Code.REFUSED: "REFUSED",
}  # fmt: skip


class _Sizes(Struct):
    asked: Buckets = field(default_factory=lambda: Buckets(_BYTES))
    answered: Buckets = field(default_factory=lambda: Buckets(_BYTES))


class Note:
    """How often answers of one kind were sent, since they were last added to the others."""

    __slots__ = ("answered", "asked", "count", "reply", "request")

    def __init__(self, protocol: str, kind: int, asked: int, body: bytes) -> None:
        self.request = protocol, kind if kind in _TYPES else 0
        # An answer of our own zone is authoritative, others came from elsewhere.
        self.reply = body[3] & 15, "kubernetes" if body[2] & 0x04 else "forward" if kind else ""
        self.asked, self.answered = asked, len(body)
        self.count = 0


class Kept(Struct):
    """Of others' answers: how many are kept, how many questions found one (both by sort: "success",
    "denial"), and how many found none."""

    entries: Mapping[str, int] = field(default_factory=dict)
    hits: Mapping[str, int] = field(default_factory=dict)
    misses: int = 0


class Metrics:
    """Counts of one server."""

    def __init__(self, cache: Callable[[], Kept] = Kept) -> None:
        self._cache = cache
        self._requests: dict[tuple[str, int], int] = {}
        self._responses: dict[tuple[int, str], int] = {}
        self._seconds = Buckets(_SECONDS)
        self._sizes = {"udp": _Sizes(), "tcp": _Sizes()}
        self._pending: list[Note] = []
        self._forwarded: dict[tuple[str, int], Buckets] = {}
        self.panics = 0
        self.rejected = 0
        self.searched = 0
        """Search lists walked for a client, with success."""

    @staticmethod
    def begin() -> float:
        return time.perf_counter()

    def note(self, protocol: str, kind: int, asked: int, body: bytes, began: float) -> None:
        """One answer. `kind` is the type asked for (0 for nonsense), `asked` a size in bytes."""
        once = Note(protocol, kind, asked, body)
        once.count = 1
        self._add(once)
        self._seconds.add(time.perf_counter() - began)

    def count(self, note: Note, seconds: float) -> None:
        """One more answer of a kind."""
        if not note.count:
            if len(self._pending) >= _PENDING:
                self._settle()
            self._pending.append(note)
        note.count += 1
        histogram = self._seconds
        histogram.counts[bisect_left(_SECONDS, seconds)] += 1
        histogram.total += seconds

    def forwarded(self, to: str, code: int, seconds: float) -> None:
        """An answer of another name server. Those are few, and so are codes."""
        self._forwarded.setdefault((to, code), Buckets(_SECONDS)).add(seconds)

    def _settle(self) -> None:
        for note in self._pending:
            self._add(note)
        self._pending.clear()

    def _add(self, note: Note) -> None:
        requests, responses = self._requests, self._responses
        requests[note.request] = requests.get(note.request, 0) + note.count
        responses[note.reply] = responses.get(note.reply, 0) + note.count
        sizes = self._sizes[note.request[0]]
        sizes.asked.add(note.asked, note.count)
        sizes.answered.add(note.answered, note.count)
        note.count = 0

    def text(self) -> str:
        self._settle()
        return "\n".join(self._lines()) + "\n"

    def page(self, path: str) -> bytes:
        """What the port says."""
        return response((200, CONTENT_TYPE, self.text()) if path == "/metrics" else NOTHING)

    def _lines(self) -> Iterator[str]:
        name = "coredns_dns_requests_total"
        yield f"# TYPE {name} counter"
        for (protocol, kind), count in sorted(self._requests.items()):
            labels = f'family="1",proto="{protocol}",{_ZONE},type="{_TYPES.get(kind, "other")}"'
            yield f"{name}{{{labels}}} {count}"
        name = "coredns_dns_responses_total"
        yield f"# TYPE {name} counter"
        for (code, plugin), count in sorted(self._responses.items()):
            yield f'{name}{{plugin="{plugin}",rcode="{_code(code)}",{_ZONE}}} {count}'
        name = "coredns_dns_request_duration_seconds"
        yield f"# TYPE {name} histogram"
        yield from self._seconds.lines(name, _ZONE)
        for what in ("request", "response"):
            name = f"coredns_dns_{what}_size_bytes"
            yield f"# TYPE {name} histogram"
            for protocol, sizes in self._sizes.items():
                buckets = sizes.asked if what == "request" else sizes.answered
                yield from buckets.lines(name, f'proto="{protocol}",{_ZONE}')
        yield from self._cache_lines()
        name = "coredns_proxy_request_duration_seconds"
        yield f"# TYPE {name} histogram"
        for (to, code), buckets in sorted(self._forwarded.items()):
            yield from buckets.lines(name, f'proxy_name="forward",rcode="{_code(code)}",to="{to}"')
        yield "# TYPE coredns_forward_max_concurrent_rejects_total counter"
        yield f"coredns_forward_max_concurrent_rejects_total {self.rejected}"
        yield "# TYPE coredns_autopath_success_total counter"
        yield f"coredns_autopath_success_total{{{_SERVER}}} {self.searched}"
        yield "# TYPE coredns_plugin_enabled gauge"
        for plugin in _PLUGINS:
            yield f'coredns_plugin_enabled{{name="{plugin}",{_ZONE}}} 1'
        yield "# TYPE coredns_build_info gauge"
        yield f'coredns_build_info{{goversion="",revision="",version="{VERSION}"}} 1'
        yield "# TYPE coredns_panics_total counter"
        yield f"coredns_panics_total {self.panics}"

    def _cache_lines(self) -> Iterator[str]:
        kept = self._cache()
        for name, kind, counts in (
            ("coredns_cache_entries", "gauge", kept.entries),
            ("coredns_cache_hits_total", "counter", kept.hits),
        ):
            yield f"# TYPE {name} {kind}"
            for sort, count in counts.items():
                yield f'{name}{{{_SERVER},type="{sort}",view="",zones="."}} {count}'
        labels = f'{_SERVER},view="",zones="."'
        yield "# TYPE coredns_cache_misses_total counter"
        yield f"coredns_cache_misses_total{{{labels}}} {kept.misses}"
        yield "# TYPE coredns_cache_requests_total counter"
        yield f"coredns_cache_requests_total{{{labels}}} {sum(kept.hits.values()) + kept.misses}"


def _code(code: int) -> str:
    return _CODES[Code(code)] if code in _CODES else str(code)
