"""The API server itself: one entry for every request, and what subresources build on.

`handle` is the only way in: path, authorisation, verb. Verbs decode, admit (mutating), default,
validate (schema, kind, admission) and store, in that order. Errors become a Status here and
nowhere else. One background task, `cache.run`, follows the store; it keeps the label indexes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sampan.aio.clock import Clock
from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.store.interface import Store

from .config import ServerConfig
from .exchange import Request, Response, Stream, Upgrade, User
from .registry import Registry

Change = Callable[[Object], Object]
"""Gets a private deep copy of the stored object, gives what is to be stored (often the same)."""

Observer = Callable[[str, Object, Object | None], None]
"""Called with ADDED, MODIFIED or DELETED, the object (the last one when deleted), the one before."""


class Server:
    """The API over one store. Made by the daemon; `start` before the first request."""

    def __init__(self, store: Store, config: ServerConfig, clock: Clock) -> None:
        self.store = store
        self.config = config
        self.clock = clock
        self.resources: Registry
        self.authn: Any  # authn.Authenticator(server): authenticate(headers, peer_cert_der)
        self.authorizer: Any  # authz.Authorizer(server): authorize(Attributes) -> (bool, reason)
        self.admission: Any  # admission.Admission(server): await admit(Write)

    async def start(self) -> None:
        """Open the cache, then bootstrap.bootstrap(self), then serve as ready."""
        raise NotImplementedError

    async def handle(self, request: Request) -> Response | Stream | Upgrade:
        """Answer one authenticated request. Never raises StatusError: it becomes a Response."""
        raise NotImplementedError

    async def close(self) -> None:
        """End watches and background tasks. The store stays open: it is the caller's."""
        raise NotImplementedError

    # What authorisation, admission, subresources and bootstrap use. No authorisation happens here.

    def observe(self, resource: Descriptor, observer: Observer) -> None:
        """Call `observer` for every object there is (as ADDED) now, and for each later write."""
        raise NotImplementedError

    def find_object(self, resource: Descriptor, namespace: str, name: str) -> Object | None:
        """The stored object, shared (never change it), or None."""
        raise NotImplementedError

    def get_object(self, resource: Descriptor, namespace: str, name: str) -> Object:
        """The same, or NotFound in upstream's words."""
        raise NotImplementedError

    def list_objects(self, resource: Descriptor, namespace: str = "") -> list[Object]:
        """All objects of a collection, shared, in key order."""
        raise NotImplementedError

    async def create_object(
        self, resource: Descriptor, body: Object, namespace: str = "", user: User | None = None
    ) -> Object:
        """The whole create path (admission, defaults, validation); AlreadyExists as usual."""
        raise NotImplementedError

    async def update_object(
        self,
        resource: Descriptor,
        namespace: str,
        name: str,
        change: Change,
        *,
        user: User | None = None,
        subresource: str = "",
    ) -> Object:
        """Guarded update with retries: re-reads, applies `change` to a copy, admits, validates and
        stores. `subresource` "status" stores only status, "" only what is not status; any other
        (binding, ephemeralcontainers, resize, scale ...) stores all of what `change` gives.
        `change` may raise StatusErrors; a body with another resourceVersion raises Conflict."""
        raise NotImplementedError

    async def delete_object(
        self,
        resource: Descriptor,
        namespace: str,
        name: str,
        options: Object | None = None,
        *,
        user: User | None = None,
    ) -> Object:
        """The whole delete path with DeleteOptions (grace, preconditions, finalizers)."""
        raise NotImplementedError
