"""What goes through the server: a request in, an answer out. No sockets here.

HTTP (`http.py`) and the in-process transport (`local.py`) both make a `Request` and hand it to
`Server.handle`; verbs never know which it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field

from sampan.api import principals
from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

if TYPE_CHECKING:
    from .fairness.fairness import Flow
    from .options import WriteOptions

NOT_KEPT = ("Cache-Control", "no-cache, private")
"""What caches are told about answers, unless these say something else."""
NO_EXTRA: Mapping[str, Sequence[str]] = {}


class Incoming(Protocol):
    """A request's body that still arrives: iterate over it once. Raises ConnectionError when the
    client leaves before its end."""

    length: int | None
    """As the client announced it; None when it did not."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class User(Struct, frozen=True):
    """Who is asking (authentication.k8s.io UserInfo)."""

    name: str
    groups: Sequence[str] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = field(default_factory=lambda: NO_EXTRA)


def user_info(user: User) -> Object:
    """A user as authentication.k8s.io UserInfo, without what is empty."""
    info: Object = {}
    if user.name:
        info["username"] = user.name
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


ANONYMOUS = User(principals.ANONYMOUS, (principals.UNAUTHENTICATED,))


class Request(Struct):
    """One API call."""

    method: str
    path: str
    """Decoded path, no query."""
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes | Any
    """Bytes over HTTP; in process the decoded value itself, which nobody may change."""
    user: User = ANONYMOUS
    local: bool = False
    """True in process: answers may carry decoded objects instead of bytes."""
    upgradable: bool = False
    """The client asked to upgrade the connection (`Connection: Upgrade`), and the transport can."""
    audit_id: str = ""
    impersonator: User | None = None
    """Who really asks, when `user` is whom they act as."""
    constraint: str = ""
    """The constrained right that allowed it (KEP-5284)."""
    peer: str = ""
    """The address it came from."""
    attributes: Attributes | None = None
    """What it is about, once that is known."""
    raw_query: str = ""
    """The query as it was sent, for whoever passes it on."""
    incoming: Incoming | None = None
    """A body that is not waited for, of requests that are passed on; `body` is empty then."""

    flow: Flow | None = None
    """Its flow, once it is classified; requests of the process itself have none."""

    def param(self, name: str) -> str:
        """The first value of a query parameter, "" when absent."""
        values = self.query.get(name)
        return values[0] if values else ""


class Response(Struct):
    """A whole answer. Exactly one of `body` (bytes ready to send) and `obj` is what counts: in
    process `obj` is handed over as it is; over HTTP an `obj` without `body` is encoded."""

    status: int = 200
    body: bytes | None = None
    obj: Any = None
    content_type: str = "application/json"
    """"" when `headers` say it, and what caches may do."""
    headers: Sequence[tuple[str, str]] = ()


class Stream(Struct):
    """An answer that goes on (watch, log). `chunks` yields bytes over HTTP; for local watches it
    yields `client.interface.WatchEvent`s."""

    chunks: AsyncIterator[Any]
    status: int = 200
    content_type: str = "application/json"
    """As a Response's."""
    headers: Sequence[tuple[str, str]] = ()
    length: int | None = None
    """Of the whole body, when it is known beforehand."""
    bodiless: bool = False
    """The status allows no body (204, 304)."""
    direct: Callable[[Callable[[bytes], bool]], None] | None = None
    """Takes the connection's way to write a chunk at once while `chunks` waits; it answers False,
    and has done nothing, when the reader is behind."""


class Attributes(Struct):
    """What a request is about: the input of authorisation and admission."""

    user: User
    verb: str
    """RBAC's word: get, list, watch, create, update, patch, delete, deletecollection; or the
    lower-case HTTP method for a path that is no resource."""
    resource: Descriptor | None = None
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: str = ""
    """The field selector of a list, watch or deletecollection, as it was sent."""
    labels: str = ""
    """The label selector, likewise."""
    annotations: dict[str, str] | None = None
    """Audit annotations that admission adds; None until there is one."""
    aside_s: float = 0.0
    """How long it waited for webhooks and for its turn: not the server's own time."""


class Passes(Struct):
    """The mutating pass of admission, which may be run a second time (reinvocation)."""

    wanted: bool = False
    """Set by plugins that want the second pass: they changed what others have seen."""
    second: bool = False
    """Is this the second pass?"""
    memory: dict[str, Any] = field(default_factory=dict)
    """What plugins keep from the first pass for the second, by their own keys."""


class Write(Struct):
    """A write on its way through admission. Mutating plugins change `obj`, which is private."""

    attributes: Attributes
    operation: str
    """CREATE, UPDATE, DELETE or CONNECT."""
    obj: Object
    """The new object ({} for DELETE)."""
    old: Object | None
    """The stored object for UPDATE and DELETE; read only."""
    dry_run: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    """Sent back in Warning headers."""
    asked: WriteOptions | None = None
    """The options of a create or update, where the client gave any."""
    _passes: Passes | None = None

    @property
    def passes(self) -> Passes:
        """Made when a plugin first asks for it."""
        if self._passes is None:
            self._passes = Passes()
        return self._passes

    @property
    def again(self) -> bool:
        """Does a plugin want the second mutating pass?"""
        return self._passes is not None and self._passes.wanted

    def annotate(self, key: str, value: str) -> None:
        """Add an audit annotation; the first of a key counts."""
        known = self.attributes.annotations
        if known is None:
            known = self.attributes.annotations = {}
        known.setdefault(key, value)


class Upgrade(Struct):
    """An answer that takes over the connection (exec, attach, port-forward, proxy).

    Over HTTP `splice(transport, received)` runs as the request's task: reading is paused,
    `received` is what arrived behind the request's head, nothing has been answered yet. It
    installs its own protocol with `transport.set_protocol`, resumes reading, and owns the
    transport until it is closed: a failed upgrade is answered and closed, never handed back
    (CVE-2018-1002105).
    """

    splice: Callable[[asyncio.Transport, bytes], Awaitable[None]]


Answer = Response | Stream | Upgrade
