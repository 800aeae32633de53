"""/healthz, /livez, /readyz, /metrics and the z-pages: how the server says that it is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .exchange import Request, Response
from .metrics import exposition

if TYPE_CHECKING:
    from .app import Server

TEXT = "text/plain; charset=utf-8"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Check = Callable[["Server"], str]
"""Gives "" when all is well, else the reason it is not."""


def _ping(server: Server) -> str:
    return ""


def store_trouble(server: Server) -> str:
    """Why the store takes no writes, "" while it does."""
    return server.store.trouble()


def _started(server: Server) -> str:
    return "" if server.ready or server.closing else "not finished"


def _open(server: Server) -> str:
    return "process is shutting down" if server.closing else ""


CHECKS: dict[str, tuple[tuple[str, Check], ...]] = {
    "healthz": (("ping", _ping), ("etcd", store_trouble), ("poststarthook/bootstrap", _started)),
    "livez": (("ping", _ping), ("etcd", store_trouble), ("poststarthook/bootstrap", _started)),
    "readyz": (
        ("ping", _ping),
        ("etcd", store_trouble),
        ("informer-sync", _started),
        ("poststarthook/bootstrap", _started),
        ("shutdown", _open),
    ),
}


def answer(server: Server, request: Request) -> Response | None:
    """The answer to a health or metrics path; None for any other path."""
    parts = request.path.strip("/").split("/", 1)
    if request.path == "/metrics":
        others = "".join(part() for part in server.expositions)
        return Response(200, exposition(server) + others.encode(), content_type=METRICS_TYPE)
    if request.path == "/metrics/resources":
        from . import podresources

        return Response(200, podresources.exposition(server), content_type=METRICS_TYPE)
    checks = CHECKS.get(parts[0])
    if checks is None:
        if request.path not in ("/statusz", "/flagz"):
            return None
        from . import zpages

        return zpages.answer(server, request)
    checks = (*checks, *server.health_checks)
    if len(parts) > 1:
        return _one(server, checks, parts[1])
    return _all(server, request, parts[0], checks)


def _one(server: Server, checks: tuple[tuple[str, Check], ...], name: str) -> Response | None:
    for known, check in checks:
        if known == name:
            why = check(server)
            if why:
                return Response(500, f"internal server error: {why}\n".encode(), content_type=TEXT)
            return Response(200, b"ok", content_type=TEXT)
    return None


def _all(
    server: Server, request: Request, path: str, checks: tuple[tuple[str, Check], ...]
) -> Response:
    excluded = set(request.query.get("exclude", ()))
    lines = []
    failed = []
    for name, check in checks:
        if name in excluded:
            lines.append(f"[+]{name} excluded: ok")
        elif check(server):
            lines.append(f"[-]{name} failed: reason withheld")
            failed.append(name)
        else:
            lines.append(f"[+]{name} ok")
    unknown = sorted(excluded - {name for name, _ in checks})
    if unknown:
        quoted = ", ".join(f'"{name}"' for name in unknown)
        lines.append(f"warn: some health checks cannot be excluded: no matches for {quoted}")
    if failed:
        lines.append(f"{path} check failed")
        return Response(500, ("\n".join(lines) + "\n").encode(), content_type=TEXT)
    if "verbose" in request.query:
        lines.append(f"{path} check passed")
        return Response(200, ("\n".join(lines) + "\n").encode(), content_type=TEXT)
    return Response(200, b"ok", content_type=TEXT)
