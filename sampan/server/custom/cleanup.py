"""A definition that is deleted takes its objects with it (apiextensions-apiserver pkg/controller/
finalizer). Objects held by finalizers hold the definition; nothing is polled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sampan.api.descriptor import Descriptor
from sampan.api.errors import NotFound, Object
from sampan.api.meta import with_condition
from sampan.api.times import format_time

from .catalog import DEFINITIONS
from .naming import FINALIZER

if TYPE_CHECKING:
    from ..app import Server

DELETED_AT_ONCE = 64
"""Deletions under way at a time: enough to share a commit, few enough to let others in between."""


async def clean(server: Server, name: str) -> None:
    """Delete all objects of a definition, then let it go. Raises StatusErrors."""
    try:
        entry = server.customs.find(name)
        if entry is not None and entry.versions:
            await _say(
                server, name, "InstanceDeletionInProgress", "CustomResource deletion is in progress"
            )
            stored = next(item for item in entry.versions if is_stored(item))
            await _empty(server, stored)
        await server.update_object(
            DEFINITIONS, "", name, lambda obj: _released(server, obj), subresource="finalize"
        )
    except NotFound:
        return


def is_stored(resource: Descriptor) -> bool:
    """Is it the version that is stored, of whose objects few need to be converted?"""
    return resource.custom is not None and bool(resource.custom.codec.is_stored)


async def _say(server: Server, name: str, reason: str, message: str) -> None:
    await server.update_object(
        DEFINITIONS,
        "",
        name,
        lambda obj: _terminating(server, obj, "True", reason, message),
        subresource="status",
    )


def _terminating(server: Server, obj: Object, state: str, reason: str, message: str) -> Object:
    status = obj.setdefault("status", {})
    condition = {
        "lastTransitionTime": format_time(server.clock.now()),
        "message": message,
        "reason": reason,
        "status": state,
        "type": "Terminating",
    }
    status["conditions"] = with_condition(status.get("conditions") or (), condition)
    return obj


def _released(server: Server, obj: Object) -> Object:
    meta = obj["metadata"]
    kept = [item for item in meta.get("finalizers") or () if item != FINALIZER]
    meta["finalizers"] = kept
    if not kept:
        del meta["finalizers"]
    return _terminating(server, obj, "False", "InstanceDeletionCompleted", "removed all instances")


async def _empty(server: Server, resource: Descriptor) -> None:
    """Delete what there is until nothing is left; what has finalizers is waited for."""
    changed = asyncio.Event()
    observers = server.cache.collection(resource).observers

    def notice(event: str, obj: Object, old: Object | None) -> None:
        changed.set()

    observers.append(notice)
    try:
        while records := server.store.range(resource.storage).records:
            changed.clear()
            objects = [server.cache.peek(record)["metadata"] for record in records]
            waiting = [meta for meta in objects if not meta.get("deletionTimestamp")]
            for start in range(0, len(waiting), DELETED_AT_ONCE):
                batch = waiting[start : start + DELETED_AT_ONCE]
                await asyncio.gather(*(_delete(server, resource, meta) for meta in batch))
            if not waiting:
                await changed.wait()
    finally:
        observers.remove(notice)


async def _delete(server: Server, resource: Descriptor, meta: Object) -> None:
    try:
        await server.delete_object(resource, meta.get("namespace", ""), meta["name"])
    except NotFound:
        return
