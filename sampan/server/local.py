"""The transport of components in this process: no HTTP, no encoding, no authentication.

Objects that come out are the cache's own and shared with everyone; errors are raised as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from orjson import loads

from sampan.api.errors import Object, StatusError
from sampan.client.interface import JSON, WatchEvent

from .exchange import Request, Response, Stream, User

if TYPE_CHECKING:
    from .app import Server


AGENTS = {
    "system:apiserver": "kube-apiserver",
    "system:kube-controller-manager": "kube-controller-manager",
    "system:kube-scheduler": "kube-scheduler",
    "system:node-proxier": "kube-proxy",
}
"""What upstream's components call themselves; it is their name in managedFields."""
OTHER_AGENT = "sampan"


def agent_of(user: User) -> str:
    """The User-Agent of a component that runs in this process."""
    if user.name.startswith("system:node:") or user.name == "system:nodes":
        return "kubelet"
    return AGENTS.get(user.name, OTHER_AGENT)


class LocalTransport:
    """Implements `client.interface.Transport`."""

    def __init__(self, server: Server, user: User) -> None:
        self._server = server
        self._user = user
        self._agent = agent_of(user)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
    ) -> Object:
        request = self._request(method, path, query, body, content_type)
        answer = await self._server.handle(request)
        if isinstance(answer, Stream):
            return {"text": await _read(answer)}
        if not isinstance(answer, Response):
            raise TypeError("an upgraded connection needs HTTP")
        if isinstance(answer.obj, StatusError):
            raise answer.obj
        if answer.obj is None:
            if answer.content_type.startswith(JSON):
                return dict(loads(answer.body or b"{}"))
            return {"text": (answer.body or b"").decode()}
        obj: Object = answer.obj
        return obj

    def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        request = self._request("GET", path, {**query, "watch": "1"}, None, JSON)
        return self._watch(request)

    async def _watch(self, request: Request) -> AsyncIterator[WatchEvent]:
        answer = await self._server.handle(request)
        if isinstance(answer, Response):
            if isinstance(answer.obj, StatusError):
                raise answer.obj
            raise TypeError("not a watch")
        assert isinstance(answer, Stream)
        chunks = answer.chunks
        try:
            async for event in chunks:
                yield event
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
    ) -> Request:
        return Request(
            method,
            path,
            {name: [value] for name, value in query.items()} if query else {},
            {"content-type": content_type, "user-agent": self._agent},
            body,
            self._user,
            local=True,
        )

    async def close(self) -> None:
        """Nothing is held open."""


async def _read(stream: Stream) -> str:
    return b"".join([chunk async for chunk in stream.chunks]).decode(errors="replace")
