"""A few plain requests for commands: the standard library starts fastest."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from sampan.paths import ClusterPaths

TIMEOUT_S = 5.0


def get(paths: ClusterPaths, url: str, path: str) -> Any:
    """Decoded answer of the cluster's own API server. Raises OSError."""
    return ask(paths, url, path, "GET")


def delete(paths: ClusterPaths, url: str, path: str) -> None:
    """Delete an object; one that is gone already is fine. Raises OSError."""
    try:
        ask(paths, url, path, "DELETE")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise


def create(paths: ClusterPaths, url: str, path: str, body: Any) -> bool:
    """Make an object; False when there is one of its name. Raises OSError."""
    try:
        ask(paths, url, path, "POST", body)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
        return False
    return True


def text(paths: ClusterPaths, url: str, path: str) -> Iterator[str]:
    """An answer's lines, as they come. Raises OSError."""
    with _open(paths, url, path, "GET") as answer:
        for line in answer:
            yield line.decode(errors="replace")


def reason(error: urllib.error.HTTPError) -> str:
    """What the server said, in a line."""
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error)


def apply(paths: ClusterPaths, url: str, path: str, body: Any) -> Any:
    """Server-side apply; `path` names the manager. Raises OSError."""
    return ask(paths, url, path, "PATCH", body)


def ask(paths: ClusterPaths, url: str, path: str, method: str, body: Any = None) -> Any:
    """Decoded answer to a request of the administrator's. Raises OSError."""
    with _open(paths, url, path, method, body) as answer:
        return json.load(answer)


def _open(paths: ClusterPaths, url: str, path: str, method: str, body: Any = None) -> Any:
    context = ssl.create_default_context(cafile=str(paths.pki / "ca.crt"))
    token = paths.token.read_text().strip()
    kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}{path}", data, headers, method=method)
    # It is on this machine: a proxy that the environment names would not find it.
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    return urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S)
