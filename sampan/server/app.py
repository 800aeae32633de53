"""The API server itself: one entry for every request, and what subresources build on.

`handle` is the only way in: path, authorisation, verb. Verbs decode, admit (mutating), default,
validate (schema, kind, admission) and store, in that order. Errors become a Status here and
nowhere else. Gets and lists need nothing that waits: `begin` answers them without a task.

Bounds: how many requests are under way at a time is `fairness`'s to say.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from sampan.aio.clock import Clock
from sampan.api import errors
from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.principals import MASTERS
from sampan.api.resources import builtin
from sampan.api.times import format_time
from sampan.store.interface import Store

from . import bootstrap, discovery, health, settings, usage
from .admission import Admission
from .aggregation.aggregator import Aggregator
from .answer import encode
from .authn import Authenticator, openid
from .authz import Authorizer
from .authz.questions import Undecided, settle
from .cache import Cache
from .changes import Observer
from .config import ServerConfig
from .conversion import glance_of, view_of
from .custom.catalog import Catalog
from .deadlines import Deadlines
from .deleteoptions import parse_delete_options
from .exchange import Answer, Attributes, Request, Response, User
from .fairness.debug import dump
from .fairness.fairness import Fairness, Flow
from .local import LocalTransport
from .metrics import Metrics
from .negotiate import form_of
from .options import WriteOptions
from .outcome import dress, failure, forbidden
from .pages import Pages
from .registry import Registry
from .routes import attributes_of, method_not_allowed, names_resource, unknown_resource
from .strategies import STRATEGIES
from .subresources import SUBRESOURCES
from .verbs import create, delete, deletecollection, get, patch, update, watch
from .verbs import list as list_verb
from .watching import Watcher
from .writing import Context, private_copy
from .writing import create as write_create
from .writing import update as write_update

if TYPE_CHECKING:
    from .audit import Audit
    from .reloads import Reloads
    from .webhooks.caller import Caller

SYSTEM = User("system:apiserver", (MASTERS,))
"""Who the server is to its own admission when it writes by itself."""

Change = Callable[[Object], Object]
"""Gets a private deep copy of the stored object, gives what is to be stored (often the same)."""
Handler = Callable[["Server", Request, Attributes], Coroutine[Any, Any, Answer]]

# Verbs that only look into memory.
SYNCHRONOUS: Mapping[str, Callable[[Server, Request, Attributes], Answer]] = {
    "get": get.handle,
    "list": list_verb.handle,
    "watch": watch.handle,
}
ASYNCHRONOUS: Mapping[str, Handler] = {
    "create": create.handle,
    "update": update.handle,
    "patch": patch.handle,
    "delete": delete.handle,
    "deletecollection": deletecollection.handle,
}
# Verbs of one object, and those whose attributes carry a name only by field selector.
NAMED = frozenset({"get", "update", "patch", "delete"})
UNNAMED = frozenset({"list", "watch", "deletecollection"})


def seats_of(attributes: Attributes) -> int:
    """Seats a request holds while it is under way: none, if it is answered at once."""
    if attributes.resource is None:
        return 0
    return int(attributes.verb not in SYNCHRONOUS or bool(attributes.subresource))


# What a generic subresource (status and its like) can be asked for.
PART_VERBS = frozenset({"get", "update", "patch"})


class Server:
    """The API over one store. Made by the daemon; `start` before the first request."""

    def __init__(self, store: Store, config: ServerConfig, clock: Clock) -> None:
        self.store = store
        self.config = config
        self.clock = clock
        self.began_s = clock.now()
        self.resources = Registry((*builtin(), *usage.DESCRIPTORS))
        self.cache = Cache(store)
        self.pages = Pages()
        self.metrics = Metrics()
        self.expositions: list[Callable[[], str]] = []
        """Metrics of the process's other parts, as text, for /metrics; the daemon adds them."""
        self.parts: dict[str, Callable[[], str]] = {}
        """What is wrong with other parts of the cluster, "" when they are well, by the names that
        `components` shows them under; the daemon adds them."""
        self.health_checks: list[tuple[str, health.Check]] = []
        """Those of other parts, likewise."""
        self.authn = Authenticator(self)
        self.authorizer = Authorizer(self)
        self.admission = Admission(self)
        self.audit: Audit | None = None
        """Set where there is a policy: see `settings`."""
        self.reloads: Reloads | None = None
        self.strategies: dict[tuple[str, str], Any] = {}
        self.summarize: Callable[[str], Object | None] | None = None
        """What nodes use that are in this process (see `usage`)."""
        self.customs = Catalog(self)
        self.aggregator = Aggregator(self)
        self.fairness = Fairness(self)
        self.watchers: set[Watcher] = set()
        self.deadlines = Deadlines(clock)
        self.ready = False
        self.closing = False
        self._reading = 0
        self._mutating = 0
        self._second = (0, "")
        self._webhooks: Caller | None = None

    @property
    def webhooks(self) -> Caller:
        """Calls out of the server (admission, conversion, authorisation webhooks)."""
        if self._webhooks is None:
            # Imported when first needed: most clusters have no webhooks.
            from .webhooks.caller import Caller

            self._webhooks = Caller(self)
        return self._webhooks

    async def start(self) -> None:
        """Open the cache and what is built on it, then seed what every cluster has."""
        self.cache.open()
        for key, strategy in STRATEGIES.items():
            self.strategies[key] = strategy(self)
        self.customs.start()
        settings.begin(self)
        for part in (self.authn, self.authorizer, self.admission):
            begin = getattr(part, "start", None)
            if begin is not None:
                begin()
        await asyncio.gather(
            bootstrap.bootstrap(self), self.aggregator.start(), self.fairness.start()
        )
        self.ready = True

    async def close(self) -> None:
        """End watches and background tasks. The store stays open: it is the caller's."""
        self.ready = False
        self.closing = True
        for watcher in tuple(self.watchers):
            watcher.close()
        self.deadlines.close()
        if self.audit is not None:
            await self.audit.drain()
        if self._webhooks is not None:
            self._webhooks.close()
        self.customs.close()
        if self.audit is not None:
            self.audit.close()
        self.authorizer.close()
        self.aggregator.close()
        self.fairness.close()
        self.cache.close()

    def local_transport(self, user: User) -> LocalTransport:
        """A client transport in this process, as `user`."""
        return LocalTransport(self, user)

    def timestamp(self) -> str:
        """Now, as objects carry it; made once a second."""
        second = int(self.clock.now())
        if second != self._second[0]:
            self._second = (second, format_time(second))
        return self._second[1]

    # Requests.

    async def handle(self, request: Request) -> Answer:
        """Answer one authenticated request. Never raises StatusError: it becomes a Response."""
        answer = self.begin(request)
        return await answer if isinstance(answer, Coroutine) else answer

    def begin(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """Answer at once what needs no waiting; else give the coroutine that answers."""
        return self.answer(request) if self.audit is None else self.audit.begin(request)

    def answer(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """The same, unseen by the audit log."""
        began = self.clock.monotonic()
        attributes: Attributes | None = None
        flow = limit_s = None
        try:
            # The dictionary is empty where no other server extends the API.
            if self.aggregator.remote:
                attributes = self.aggregator.attributes(request)
            if attributes is None:
                attributes = attributes_of(request, self.resources)
            if request.query and "timeout" in request.query:
                from . import allotment

                limit_s = allotment.allotted_s(request, attributes)
            if request.local:
                answer = self._dispatch(request, attributes)
            else:
                flow = request.flow = self.fairness.classify(attributes)
                answer = self._share(request, attributes, flow)
            if self.authorizer.asks_others and isinstance(answer, Coroutine):
                answer = settle(functools.partial(self._again, request, attributes, flow), answer)
        except Undecided as undecided:
            # Raised by the answer's beginning, so there are attributes.
            assert attributes is not None
            answer = settle(functools.partial(self._again, request, attributes, flow), undecided)
        except Exception as error:
            answer = failure(request, error)
        if isinstance(answer, Coroutine):
            if limit_s is not None:
                answer = allotment.answer_within(answer, limit_s)
            return self._finish(request, attributes, answer, began)
        dress(request, attributes, answer)
        took_s = self.clock.monotonic() - began
        self.metrics.count(attributes, request, answer, took_s)
        if flow is not None and not flow.level.exempt:
            self.fairness.spend(took_s)
        return answer

    def _again(
        self, request: Request, attributes: Attributes, flow: Flow | None
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The same request from its start, now that more is decided."""
        if flow is None:
            return self._dispatch(request, attributes)
        return self._share(request, attributes, flow)

    def _share(
        self, request: Request, attributes: Attributes, flow: Flow
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """Answer a request now, or when its flow has its turn."""
        if flow.level.exempt:
            return self._dispatch(request, attributes)
        if self.fairness.contended:
            run = functools.partial(self._dispatch, request, attributes)
            return self.fairness.later(flow, attributes, seats_of(attributes), run)
        answer = self._dispatch(request, attributes)
        if isinstance(answer, Coroutine):
            return self.fairness.hold(flow, attributes, answer)
        return answer

    async def _finish(
        self,
        request: Request,
        attributes: Attributes | None,
        work: Coroutine[Any, Any, Answer],
        began: float,
    ) -> Answer:
        reading = request.method == "GET"
        if reading:
            self._reading += 1
        else:
            self._mutating += 1
        answer: Answer
        try:
            answer = await work
            if isinstance(answer, Response) and answer.body is None and not request.local:
                answer = self._encoded(request, answer)
        except Exception as error:
            answer = failure(request, error)
        finally:
            if reading:
                self._reading -= 1
            else:
                self._mutating -= 1
        dress(request, attributes, answer)
        self.metrics.count(attributes, request, answer, self.clock.monotonic() - began)
        return answer

    def refuse(self, request: Request, error: Exception) -> Response:
        """The answer to a request that came no further than the question who asks."""
        answer = failure(request, error)
        self.metrics.count(None, request, answer, 0.0)
        if self.audit is not None:
            self.audit.refused(request, answer)
        return answer

    def in_flight(self) -> tuple[int, int]:
        """How many (reading, mutating) requests are under way."""
        return self._reading, self._mutating

    def _encoded(self, request: Request, answer: Response) -> Response:
        made = encode(answer.obj, form_of(request.headers.get("accept", ""))._replace(convert=""))
        answer.body, answer.content_type = made.body, made.content_type
        return answer

    def _dispatch(
        self, request: Request, attributes: Attributes
    ) -> Answer | Coroutine[Any, Any, Answer]:
        request.attributes = attributes
        self.authorize(attributes)
        if self.aggregator.remote and (extension := self.aggregator.find(request.path)):
            return self.aggregator.begin(request, extension)
        resource = attributes.resource
        if resource is None:
            return self._path(request)
        if not resource.storage:
            return self._computed(request, attributes, resource)
        verb, subresource = attributes.verb, attributes.subresource
        special = SUBRESOURCES.get((resource.plural, subresource))
        if special is None and subresource:
            special = SUBRESOURCES.get(("*", subresource))
        if subresource:
            if subresource not in resource.subresources:
                raise unknown_resource()
            if special is not None:
                return special(self, request, attributes)
            part = resource.subresources[subresource].kind == resource.kind
            if not part or verb not in PART_VERBS:
                # Who may write nodes/proxy must not write nodes with it.
                raise method_not_allowed()
        elif (verb in NAMED) != bool(attributes.name) and verb not in UNNAMED:
            raise method_not_allowed()
        elif special is not None and verb == "create":
            return special(self, request, attributes)
        elif verb not in resource.verbs:
            raise method_not_allowed()
        now = SYNCHRONOUS.get(verb)
        if now is None:
            return ASYNCHRONOUS[verb](self, request, attributes)
        if resource.custom is not None and (view := view_of(resource)) and view.prepare:
            from .custom.reading import read_prepared

            return read_prepared(self, request, attributes, now)
        return now(self, request, attributes)

    def _computed(
        self, request: Request, attributes: Attributes, resource: Descriptor
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """Of what is not stored but made when it is asked for."""
        if not resource.rules.computed:
            return usage.handle(self, request, attributes)
        # Imported when first asked for: it is deprecated.
        from . import components

        return components.handle(self, request, attributes)

    def _path(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        if names_resource(request.path):
            raise unknown_resource()
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        if request.path == "/sampan/tunnel":
            # Imported where machines join that we may not be able to call.
            from . import tunnels

            return tunnels.answer(self, request)
        accept = request.headers.get("accept", "")
        answer = health.answer(self, request)
        if answer is None and request.path.startswith("/debug/"):
            answer = dump(self.fairness, request)
        if answer is None:
            answer = openid.answer(self, request.path)
        if answer is None:
            shown = self.aggregator.shown
            answer = discovery.answer(request.path, accept, shown, request.headers)
        if answer is None and self.aggregator.remote and request.path.startswith("/openapi/"):
            return self._openapi(request, accept)
        if answer is None:
            # Imported when first asked for, which on most days is never.
            from . import openapi

            digest = request.param("hash")
            answer = openapi.answer(request.path, accept, self.resources, request.headers, digest)
        if answer is None:
            raise unknown_resource()
        if answer.body is None and not request.local:
            return self._encoded(request, answer)
        return answer

    async def _openapi(self, request: Request, accept: str) -> Answer:
        """OpenAPI where some of it is other servers'."""
        from . import openapi
        from .aggregation.discovery import answer_openapi

        answer = await answer_openapi(self, request, accept) or openapi.answer(
            request.path, accept, self.resources, request.headers, request.param("hash")
        )
        if answer is None:
            raise unknown_resource()
        return answer

    def authorize(self, attributes: Attributes) -> None:
        """Raise Forbidden, in upstream's words, unless the user may do this."""
        allowed, reason = self.authorizer.authorize(attributes)
        if not allowed:
            raise forbidden(attributes, reason)

    def patched(self, request: Request, old: Object, resource: Descriptor | None) -> Object:
        """The request's patch applied to a copy of `old`. No strategic patch without `resource`."""
        result = patch.patch_of(request, resource)(private_copy(old))
        if not isinstance(result, dict):
            raise errors.BadRequest("the patch does not make an object")
        return result

    # What authorisation, admission, subresources and bootstrap use. No authorisation happens here.

    def observe(self, resource: Descriptor, observer: Observer) -> None:
        """Call `observer` for every object there is (as ADDED) now, and for each later write."""
        self.cache.observe(resource, observer)

    def find_object(self, resource: Descriptor, namespace: str, name: str) -> Object | None:
        """The stored object, shared (never change it), or None."""
        record = self.store.get(resource.key(namespace, name))
        if record is None:
            return None
        obj, glance = self.cache.decode(record), glance_of(resource)
        return obj if glance is None else glance(obj)

    def get_object(self, resource: Descriptor, namespace: str, name: str) -> Object:
        """The same, or NotFound in upstream's words."""
        found = self.find_object(resource, namespace, name)
        if found is None:
            raise errors.not_found(resource.group, resource.plural, name)
        return found

    def list_objects(self, resource: Descriptor, namespace: str = "") -> list[Object]:
        """All objects of a collection, shared, in key order."""
        records = self.store.range(resource.prefix(namespace)).records
        found, glance = map(self.cache.peek, records), glance_of(resource)
        return list(found if glance is None else map(glance, found))

    async def create_object(
        self, resource: Descriptor, body: Object, namespace: str = "", user: User | None = None
    ) -> Object:
        """The whole create path (admission, defaults, validation); AlreadyExists as usual."""
        attributes = Attributes(user or SYSTEM, "create", resource, "", namespace)
        context = Context(self, attributes, resource)
        obj = create.decode_value(context, body, resource, shared=True)
        return (await write_create(context, obj)).obj

    async def update_object(
        self,
        resource: Descriptor,
        namespace: str,
        name: str,
        change: Change,
        *,
        user: User | None = None,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Guarded update with retries: re-reads, applies `change` to a copy, admits, validates and
        stores. `subresource` "status" stores only status, "" only what is not status; any other
        (binding, ephemeralcontainers, resize, scale ...) stores all of what `change` gives.
        `change` may raise StatusErrors; a body with another resourceVersion raises Conflict."""
        attributes = Attributes(user or SYSTEM, "update", resource, subresource, namespace, name)
        context = Context(self, attributes, resource, WriteOptions(dry_run=dry_run))

        def compute(old: Object, private: Object) -> Object:
            version = old["metadata"]["resourceVersion"]
            new = change(private)
            if new["metadata"].get("resourceVersion") == version:
                new["metadata"].pop("resourceVersion")
            return new

        return (await write_update(context, name, compute)).obj

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
        attributes = Attributes(user or SYSTEM, "delete", resource, "", namespace, name)
        parsed = parse_delete_options(options or {})
        context = Context(self, attributes, resource, WriteOptions(dry_run=parsed.dry_run))
        return (await delete.delete(context, name, parsed)).obj
