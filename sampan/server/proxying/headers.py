"""Which headers pass a proxy. Pure.

Hop-by-hop headers (RFC 9110 7.6.1) belong to one connection and are dropped, with those that
Connection names; credentials were for this server, so no backend ever sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "proxy-connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# Of the client to this server. The front proxy's headers would make the backend believe them.
PRIVATE: Final = ("authorization", "expect")
PRIVATE_PREFIXES: Final = ("impersonate-", "x-remote-")
BEARER: Final = "base64url.bearer.authorization.k8s.io."
# What may stand in a path as it is (RFC 3986 pchar and "/").
PATH_SAFE: Final = "/:@!$&'()*+,;=~-._"

Pairs = list[tuple[str, str]]


def request_headers(headers: Mapping[str, str], *, upgrade: bool) -> Pairs:
    """What a backend gets of a client's headers (names are lower-case), without Host and length."""
    dropped = HOP_BY_HOP | {
        item.strip().lower() for item in headers.get("connection", "").split(",")
    }
    out: Pairs = []
    for name, value in headers.items():
        if name in dropped or name in PRIVATE or name in ("host", "content-length"):
            continue
        if name.startswith(PRIVATE_PREFIXES):
            continue
        if name == "sec-websocket-protocol":
            value = _without_bearer(value)
            if not value:
                continue
        out.append((name, value))
    if upgrade:
        out += [("Connection", "Upgrade"), ("Upgrade", headers.get("upgrade", ""))]
    return out


def _without_bearer(protocols: str) -> str:
    """A browser's token travels as a WebSocket protocol."""
    items = (item.strip() for item in protocols.split(","))
    return ", ".join(item for item in items if item and not item.startswith(BEARER))


def response_headers(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """What a client gets of a backend's headers, without its length."""
    listed = list(pairs)
    dropped = set(HOP_BY_HOP | {"content-length"})
    for name, value in listed:
        if name.lower() == "connection":
            dropped.update(item.strip().lower() for item in value.split(","))
    return [(name, value) for name, value in listed if name.lower() not in dropped]


def encode_head(method: str, path: str, query: str, headers: Pairs) -> bytes:
    """A request's head. `path` is decoded, `query` as the client wrote it."""
    target = quote(path, safe=PATH_SAFE) + (f"?{query}" if query else "")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
