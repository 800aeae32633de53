"""Specs that were found right: pods of one shape, as a workload makes them, are checked once.

What is kept is a digest of a spec's JSON, and only of specs about which there is nothing to say.
Bounded by `SPECS`; the oldest goes.
"""

from __future__ import annotations

from hashlib import blake2b

from orjson import JSONEncodeError, dumps

from ....errors import Object

SPECS = 1_024
"""Workloads whose pods come and go at the same time, on one server."""
DIGEST_BYTES = 16
BY_NAME = b'"ephemeral":'
"""Claims of such volumes are named after the pod, so that its spec alone does not say it all."""


class Proven:
    """The specs one check has passed."""

    def __init__(self) -> None:
        self._digests: dict[bytes, None] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def add(self, digest: bytes) -> None:
        if not digest:
            return
        self._digests[digest] = None
        if len(self._digests) > SPECS:
            del self._digests[next(iter(self._digests))]


def digest_of(spec: Object) -> bytes:
    """What tells a spec from all others; b"", which is in nothing, where it cannot be told."""
    try:
        raw = dumps(spec)
    except JSONEncodeError:
        return b""
    return b"" if BY_NAME in raw else blake2b(raw, digest_size=DIGEST_BYTES).digest()
