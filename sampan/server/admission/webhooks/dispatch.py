"""Calling webhooks: mutating ones in order, validating ones at once, each bounded in time.

The mutating pass runs a second time, at most once, when a webhook changed an object that an
earlier one with reinvocationPolicy IfNeeded has seen. A write waits for its webhooks `REQUEST_S`
at most, all together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import orjson

from sampan.api.descriptor import Descriptor
from sampan.api.errors import InternalError, Object, StatusError, Timeout
from sampan.api.meta import new_uid

from ...exchange import Write
from ...webhooks.target import CallFailed
from ..plugin import EVERYTHING, Plugin
from .calling import call, fail, observe
from .conditions import meets_conditions
from .forms import default_early, objects_for, take_patch
from .review import request_of
from .selection import selects
from .source import Candidate, Hook

if TYPE_CHECKING:
    from ...app import Server

REQUEST_S = 34.0
"""Upstream's bound of a write with its admission."""
OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")


def _mutate(server: Server, write: Write) -> Awaitable[None] | None:
    candidates = server.admission.hooks.candidates("admit", write)
    return _bounded(write, _mutate_all(server, write, candidates)) if candidates else None


def _validate(server: Server, write: Write) -> Awaitable[None] | None:
    candidates = server.admission.hooks.candidates("validate", write)
    return _bounded(write, _validate_all(server, write, candidates)) if candidates else None


def _any_mutating(server: Server) -> bool:
    return server.admission.hooks.any("admit")


def _any_validating(server: Server) -> bool:
    return server.admission.hooks.any("validate")


MUTATING = Plugin(
    "MutatingAdmissionWebhook", {EVERYTHING: OPERATIONS}, mutate=_mutate, active=_any_mutating
)
VALIDATING = Plugin(
    "ValidatingAdmissionWebhook",
    {EVERYTHING: OPERATIONS},
    validate=_validate,
    active=_any_validating,
)


async def _bounded(write: Write, work: Awaitable[None]) -> None:
    began = time.monotonic()
    try:
        async with asyncio.timeout(REQUEST_S):
            await work
    except TimeoutError:
        raise Timeout(
            "Timeout: request did not complete within requested timeout - context deadline exceeded"
        ) from None
    finally:
        write.attributes.aside_s += time.monotonic() - began


async def _mutate_all(server: Server, write: Write, candidates: tuple[Candidate, ...]) -> None:
    memory = write.passes.memory.setdefault("webhooks", _Memory())
    assert isinstance(memory, _Memory)
    again = write.passes.second
    if again and memory.left is not None and memory.left != write.obj:
        # Plugins in between have changed the object.
        memory.require()
    if not again:
        default_early(write)
    for candidate in candidates:
        hook = candidate.hook
        if again and hook.key not in memory.wanted:
            continue
        if not selects(server, write, hook):
            continue
        objects = await objects_for(write, candidate.resource, early=True)
        if hook.conditions and not await _meets(server, write, hook, candidate.resource, objects):
            continue
        changed = await _mutate_one(server, write, candidate, objects)
        if changed:
            memory.require()
            write.passes.wanted = True
        if hook.reinvoke:
            memory.seen.add(hook.key)
    # Only compared when there is a second pass, which needs a copy then: plugins change in place.
    memory.left = orjson.loads(orjson.dumps(write.obj)) if memory.seen and not again else None


class _Memory:
    """What the second mutating pass must know of the first."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()
        """Webhooks that want to be called again when others change the object behind them."""
        self.wanted: set[tuple[str, str]] = set()
        """Those that are."""
        self.left: Object | None = None
        """The object as the first pass left it."""

    def require(self) -> None:
        self.wanted |= self.seen
        self.seen = set()


async def _mutate_one(
    server: Server,
    write: Write,
    candidate: Candidate,
    objects: tuple[Object | None, Object | None],
) -> bool:
    """Call one mutating webhook; whether it changed the object."""
    hook, target = candidate
    began = time.monotonic()
    note = f"round_{int(write.passes.second)}_index_{hook.index}"
    changed = False
    try:
        verdict = await call(server, write, hook, request_of(write, target, new_uid(), objects))
        if verdict.patch:
            if objects[0] is None or write.operation == "DELETE":
                raise InternalError(
                    f'Internal error occurred: admission webhook "{hook.name}" attempted to modify '
                    "the object, which is not supported for this operation"
                )
            changed = await take_patch(server, write, target, objects[0], verdict.patch)
            value = {
                "configuration": hook.configuration, "webhook": hook.name,
                "patch": orjson.loads(verdict.patch), "patchType": "JSONPatch",
            }  # fmt: skip
            write.annotate(f"patch.webhook.admission.k8s.io/{note}", orjson.dumps(value).decode())
    except (CallFailed, StatusError) as error:
        key = f"failed-open.mutation.webhook.admission.k8s.io/{note}"
        fail(server, write, hook, error, (began, key))
    else:
        observe(server, write, hook, (False, 200, began))
    told = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
    write.annotate(f"mutation.webhook.admission.k8s.io/{note}", orjson.dumps(told).decode())
    return changed


async def _validate_all(server: Server, write: Write, candidates: tuple[Candidate, ...]) -> None:
    calls: list[Callable[[], Awaitable[None]]] = []
    made: dict[Descriptor, Object] = {}
    for hook, target in candidates:
        if not selects(server, write, hook):
            continue
        request = made.get(target)
        if request is None:
            objects = await objects_for(write, target, early=False)
            request = made[target] = request_of(write, target, "", objects)
        objects = request["object"], request["oldObject"]
        if hook.conditions and not await _meets(server, write, hook, target, objects):
            continue
        asked = {**request, "uid": new_uid()}
        calls.append(partial(_validate_one, server, write, hook, asked, len(calls)))
    if len(calls) == 1:
        await calls[0]()
        return
    # All are asked, and all have answered before the first no counts, as upstream.
    answers = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
    for error in answers:
        if isinstance(error, BaseException):
            raise error


async def _validate_one(
    server: Server, write: Write, hook: Hook, request: Object, position: int
) -> None:
    began = time.monotonic()
    try:
        await call(server, write, hook, request)
    except (CallFailed, StatusError) as error:
        key = f"failed-open.validating.webhook.admission.k8s.io/round_0_index_{position}"
        fail(server, write, hook, error, (began, key))
    else:
        observe(server, write, hook, (False, 200, began))


async def _meets(
    server: Server,
    write: Write,
    hook: Hook,
    target: Descriptor,
    objects: tuple[Object | None, Object | None],
) -> bool:
    request = request_of(write, target, "", objects)
    return await meets_conditions(server, hook, request, write)
