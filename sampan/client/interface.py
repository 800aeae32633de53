"""The seam between a component and the API server.

A `Transport` carries one request; there are two: in-process (the server hands one out, the daemon
wires it) and HTTP. Objects are plain dicts and are shared: whoever wants to change one copies it.
Errors are `api.errors.StatusError`s on both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple, Protocol

from sampan.api.errors import Object

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class WatchEvent(NamedTuple):
    """ADDED, MODIFIED, DELETED or BOOKMARK. ERROR is raised as a StatusError instead."""

    type: str
    object: Object


class Transport(Protocol):
    """One way to the API server."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
    ) -> Object:
        """Answer of one request, decoded. Raises StatusError for an answer of 400 and above,
        and OSError when the server cannot be reached. `body` is a JSON value; it is not changed."""
        ...

    def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        """Events from `query["resourceVersion"]` on, until the server ends the watch. Raises
        Expired (410) when that version is gone. The iterator must be closed (`aclosing`)."""
        ...

    async def close(self) -> None: ...
