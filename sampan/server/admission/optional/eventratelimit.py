"""EventRateLimit: who floods the server with events is told to come back later.

Configuration (eventratelimit.admission.k8s.io/v1alpha1): `limits`, each of a type (Server,
Namespace, User, SourceAndObject) with `qps`, `burst` and `cacheSize`. Each limit keeps at most
`cacheSize` buckets; the one that was unused longest goes first, and begins anew full.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Object, TooManyRequests

from ...exchange import Write
from ..configuration import Settings, mapping, versioned
from ..plugin import Plugin

if TYPE_CHECKING:
    from ...app import Server

VERSION = "eventratelimit.admission.k8s.io/v1alpha1"
CACHE_SIZE = 4096
"""Buckets of a limit that says no cacheSize, as upstream."""


def _source_and_object(write: Write) -> str:
    source: Object = write.obj.get("source") or write.obj.get("deprecatedSource") or {}
    about: Object = write.obj.get("involvedObject") or write.obj.get("regarding") or {}
    return "".join(
        str(holder.get(field) or "")
        for holder, fields in (
            (source, ("component", "host")),
            (about, ("kind", "namespace", "name", "uid", "apiVersion")),
        )
        for field in fields
    )


KEYS: dict[str, Callable[[Write], str]] = {
    "Server": lambda write: "",
    "Namespace": lambda write: write.attributes.namespace,
    "User": lambda write: write.attributes.user.name,
    "SourceAndObject": _source_and_object,
}


class Limit:
    """One limit: a bucket of tokens for each of its keys."""

    def __init__(self, kind: str, qps: int, burst: int, size: int) -> None:
        self.kind = kind
        self._qps, self._burst, self._size = qps, burst, size
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now_s: float) -> bool:
        """Take a token; False if there is none."""
        tokens, then_s = self._buckets.pop(key, (float(self._burst), now_s))
        tokens = min(float(self._burst), tokens + (now_s - then_s) * self._qps)
        taken = tokens >= 1
        self._buckets[key] = (tokens - taken, now_s)
        if len(self._buckets) > self._size:
            self._buckets.popitem(last=False)
        return taken


class EventRateLimit:
    """All limits; each counts every event, also one that another has refused."""

    def __init__(self, limits: list[Limit]) -> None:
        self._limits = limits

    def validate(self, server: Server, write: Write) -> None:
        now_s = server.clock.monotonic()
        refused = None
        for limit in self._limits:
            key = KEYS[limit.kind](write)
            if not limit.take(key, now_s):
                refused = f"limit reached on type {limit.kind} for key {key}"
        if refused is not None:
            raise TooManyRequests(f"Too many requests: {refused}")


def _limit(raw: Any, path: str) -> Limit:
    found = mapping(raw, path, ("type", "qps", "burst", "cacheSize"))
    kind = found.get("type")
    if not isinstance(kind, str) or kind not in KEYS:
        words = ", ".join(f'"{name}"' for name in sorted(KEYS))
        raise ValueError(f'{path}.type: Unsupported value: "{kind}": supported values: {words}')
    numbers = {}
    for field in ("burst", "qps", "cacheSize"):
        value = numbers[field] = found.get(field) or 0
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{path}.{field}: must be a number")
        if value < 0 or (not value and field != "cacheSize"):
            why = "must not be negative" if field == "cacheSize" else "must be positive"
            raise ValueError(f"{path}.{field}: Invalid value: {value}: {why}")
    return Limit(kind, numbers["qps"], numbers["burst"], numbers["cacheSize"] or CACHE_SIZE)


def make(settings: Settings) -> Plugin:
    """Raises ValueError for a configuration without limits."""
    raw = versioned(settings, VERSION, "Configuration", ("limits",)).get("limits") or []
    if not isinstance(raw, list) or not raw:
        raise ValueError("limits: Invalid value: must not be empty")
    limits = [_limit(item, f"limits[{at}]") for at, item in enumerate(raw)]
    on = {(group, "events"): ("CREATE", "UPDATE") for group in ("", "events.k8s.io")}
    return Plugin(settings.name, on, validate=EventRateLimit(limits).validate)
