"""The guarded write all writing verbs share: admit, prepare, default, validate, encode, put.

Reads for a write look at the newest state, durable or not (`pending`), so that writers of one
object follow each other without waiting for the disk; the guard is the revision read. A guard that
fails is tried again from the new state, at most `ATTEMPTS` times, unless the client named a
version.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orjson import dumps, loads

from sampan.api import errors, fields, meta
from sampan.api.descriptor import STATUS_ALONE, Descriptor
from sampan.api.errors import BadRequest, Object, StatusError
from sampan.store.interface import Record, RevisionMismatch
from sampan.wire.json import encode_object, splice_version

from .changes import Note, with_version
from .conversion import View, hub_of, written_as
from .exchange import Attributes, Write
from .options import DEFAULTS, WriteOptions
from .owners import ADMITTED, name_owners_once
from .ownership.recording import record_created, record_updated
from .strategies import NONE, Strategy

if TYPE_CHECKING:
    from .app import Server

ATTEMPTS = 32
"""Tries of a guarded write that lost its race: with group commit each retry is a new batch."""
NAME_ATTEMPTS = 8
"""Tries of generateName, as upstream."""
NAME_BASE = 58
"""Longest generateName kept, so that name and suffix fit a label."""
NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"

KEEP_STATUS = frozenset({"nodes"})
"""Plurals whose status may be set at creation; a node registers with its own."""

MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


@dataclass(slots=True)
class Context:
    """What a write carries through its stages."""

    server: Server
    attributes: Attributes
    resource: Descriptor
    options: WriteOptions = DEFAULTS
    warnings: list[str] = field(default_factory=list)
    asked: Descriptor = field(init=False)
    """The resource as the client knows it; `resource` is the one that is stored."""
    view: View | None = field(init=False)
    applied: list[Object] | None = None
    """managedFields as an apply has made them; None for other writes, which record themselves."""
    says_managers: bool = True
    """May the request change managedFields itself? A patch that does not name them cannot."""

    def __post_init__(self) -> None:
        self.asked = self.resource
        self.view = written_as(self.resource)
        self.resource = hub_of(self.resource, self.view)

    def shown(self, obj: Object) -> Object:
        """A stored object as the client asked for it."""
        return obj if self.view is None else self.view.from_hub(obj)

    @property
    def subresource(self) -> str:
        return self.attributes.subresource

    @property
    def strategy(self) -> Strategy:
        key = (self.resource.group, self.resource.plural)
        strategy: Strategy = self.server.strategies.get(key, NONE)
        return strategy


@dataclass(slots=True)
class Written:
    """The outcome of a write: the object as the client sees it, and its JSON."""

    obj: Object
    body: bytes | None = None
    created: bool = False
    deleted: bool = False


Compute = Callable[[Object, Object], Object]
"""(old, private copy of old) -> the object to store; it may be that copy, changed."""


async def create(context: Context, obj: Object) -> Written:
    """Store a new object. `obj` is private, decoded and of the resource's type."""
    try:
        return await _create(context, obj)
    except StatusError as error:
        error.warnings = context.warnings
        raise


async def _create(context: Context, obj: Object) -> Written:
    metadata = _metadata_for_create(context, obj)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = _generate_name(context, metadata)
    context.resource.rules.default(obj)
    if context.applied is None:
        record_created(context, obj)
    elif context.applied:
        metadata["managedFields"] = context.applied
    return await _create_once(context, obj)


def _generate_name(context: Context, metadata: Object) -> str:
    """A name that is free. Raises AlreadyExists, which clients try again."""
    resource, store = context.resource, context.server.store
    base: str = metadata["generateName"][:NAME_BASE]
    for _ in range(NAME_ATTEMPTS):
        name = base + "".join(random.choices(NAME_LETTERS, k=5))
        if store.get(resource.key(metadata.get("namespace", ""), name), pending=True) is None:
            return name
    taken = errors.already_exists(resource.group, resource.plural, name)
    assert taken.details is not None
    taken.details.retry_after_s = 1
    why = f"{taken.message}, the server was not able to generate a unique name for the object"
    raise errors.AlreadyExists(why, taken.details)


def _metadata_for_create(context: Context, obj: Object) -> Object:
    """Server-owned metadata, as rest.BeforeCreate sets it."""
    metadata: Object = obj.setdefault("metadata", {})
    if metadata.get("resourceVersion"):
        raise BadRequest("resourceVersion should not be set on objects to be created")
    match_namespace(context, metadata)
    for name in ("resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"):
        metadata.pop(name, None)
    metadata["uid"] = meta.new_uid()
    metadata["creationTimestamp"] = context.server.timestamp()
    if context.resource.counts_generation:
        metadata["generation"] = 1
    else:
        metadata.pop("generation", None)
    return metadata


def match_namespace(context: Context, metadata: Object) -> None:
    """The namespace of the path is the object's, or the object must not contradict it."""
    if not context.resource.namespaced:
        metadata.pop("namespace", None)
        return
    namespace = context.attributes.namespace
    given = metadata.get("namespace")
    if not given:
        metadata["namespace"] = namespace
    elif given != namespace:
        raise BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


async def _create_once(context: Context, obj: Object) -> Written:
    server, resource, dry_run = context.server, context.resource, context.options.dry_run
    write = Write(
        context.attributes, "CREATE", obj, None, dry_run, {}, context.warnings, context.options
    )
    await server.admission.admit(write)
    obj = write.obj
    name_owners_once(context, obj, ADMITTED)
    metadata = obj["metadata"]
    rules = resource.rules
    if resource.has_status and resource.plural not in KEEP_STATUS:
        obj.pop("status", None)
    if rules.prepare is not None:
        context.warnings += rules.prepare(obj, None) or ()
    rules.default(obj)
    key = resource.key(metadata.get("namespace", ""), metadata.get("name", ""))
    if server.store.get(key, pending=True) is not None:
        # Refused before addresses are spent on it; the guarded put below decides. What is wrong
        # with the object counts first, as upstream.
        await _checked(context, _validate_new, obj)
        raise errors.already_exists(resource.group, resource.plural, metadata["name"])
    with context.strategy.reserve(obj, None, dry_run):
        await _checked(context, _validate_new, obj)
        context.warnings += rules.warnings(obj, None)
        await server.admission.validate(write)
        if dry_run:
            return Written(obj, created=True)
        value, stored = await _encoded(resource, obj)
        try:
            record = await server.store.put(key, value, expected=0, note=Note(stored, None))
        except RevisionMismatch:
            raise errors.already_exists(resource.group, resource.plural, metadata["name"]) from None
    if stored is not obj:
        return Written(with_version(obj, record.modified), created=True)
    return Written(obj, splice_version(value, record.modified), created=True)


async def _encoded(resource: Descriptor, obj: Object) -> tuple[bytes, Object]:
    """(bytes to store, the object they are of): another one where another version is stored."""
    if resource.custom is None or resource.custom.codec.is_stored:
        return encode_object(obj), obj
    closed: tuple[bytes, Object] = await resource.custom.codec.closed(obj)
    return closed


def _checked_as(context: Context) -> Descriptor:
    """Whose rules hold: each version of a kind has its own, for its own form."""
    return context.resource if context.view is None else context.asked


async def _checked(context: Context, check: Callable[..., None], *objects: Object) -> None:
    """Built-in kinds are checked at once; the rules of others may take long."""
    if context.resource.custom is None:
        check(context, *objects)
        return
    from .turns import in_turns

    await in_turns(check, context, *objects)


def _validate_new(context: Context, obj: Object) -> None:
    resource, shown = context.resource, context.shown(obj)
    checked = _checked_as(context)
    causes = [*meta.validate_meta(shown, checked), *checked.rules.validate(shown, None)]
    if causes:
        name = obj["metadata"].get("name", "")
        raise errors.invalid(resource.group, resource.kind, name, causes)


def newest(context: Context, name: str) -> Record:
    """The record to write on, durable or not. Raises NotFound."""
    resource = context.resource
    key = resource.key(context.attributes.namespace, name)
    record = context.server.store.get(key, pending=True)
    if record is None:
        raise errors.not_found(resource.group, resource.plural, name)
    return record


async def update(context: Context, name: str, compute: Compute) -> Written:
    """Guarded read-change-write of one object. `compute` may raise any StatusError."""
    for _ in range(ATTEMPTS):
        record = newest(context, name)
        try:
            return await _update_once(context, record, compute)
        except RevisionMismatch:
            continue
        except StatusError as error:
            error.warnings = context.warnings
            raise
    resource = context.resource
    raise errors.conflict(resource.group, resource.plural, name, MODIFIED)


async def _update_once(context: Context, record: Record, compute: Compute) -> Written:
    server, resource = context.server, context.resource
    if resource.custom is None:
        old = server.cache.decode(record)
        private: Object = loads(record.value)
        private["metadata"]["resourceVersion"] = str(record.modified)
    else:
        old, private = await resource.custom.codec.opened(record)
    new = compute(old, private)
    version = check_version(context, old, new)
    new = merged(context, old, new)
    if context.applied is not None:
        if context.applied:
            new["metadata"]["managedFields"] = context.applied
        else:
            new["metadata"].pop("managedFields", None)
    else:
        if not context.subresource:
            _default(context, old, new)
        record_updated(context, old, new)
    options = context.options
    write = Write(
        context.attributes, "UPDATE", new, old, options.dry_run, {}, context.warnings, options
    )
    await server.admission.admit(write)
    new = write.obj
    name_owners_once(context, new, ADMITTED)
    _prepare(context, new, old)
    with context.strategy.reserve(new, old, context.options.dry_run):
        await _checked(context, _validate, new, old)
        if not context.subresource:
            context.warnings += resource.rules.warnings(new, old)
        await server.admission.validate(write)
        try:
            return await _store(context, record, new, old)
        except RevisionMismatch:
            if version:
                name = old["metadata"]["name"]
                raise errors.conflict(resource.group, resource.plural, name, MODIFIED) from None
            raise


def check_version(context: Context, old: Object, new: Object) -> str:
    """Take resourceVersion and uid of the request as preconditions. Returns the version named by
    the client, "" if it left it to us."""
    resource = context.resource
    metadata, stored = new["metadata"], old["metadata"]
    name = stored["name"]
    version = str(metadata.pop("resourceVersion", "") or "")
    if version == "0":
        version = ""
    if version and version != stored["resourceVersion"]:
        raise errors.conflict(resource.group, resource.plural, name, MODIFIED)
    uid = metadata.get("uid")
    if uid and uid != stored.get("uid"):
        if context.attributes.verb == "patch":
            # What a patch makes of an object is no precondition: it is a change like another.
            causes = [fields.immutable("metadata.uid", uid)]
            raise errors.invalid(resource.group, resource.kind, name, causes)
        raise uid_conflict(context, name, uid, stored.get("uid", ""))
    return version


def uid_conflict(context: Context, name: str, uid: str, stored: str) -> errors.Conflict:
    """The object with that uid is not the one that is there (upstream's words, from its store)."""
    resource = context.resource
    why = (
        f"StorageError: invalid object, Code: 4, Key: "
        f"{resource.key(context.attributes.namespace, name)}, ResourceVersion: 0, "
        f"AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, "
        f"UID in object meta: {stored}"
    )
    return errors.conflict(resource.group, resource.plural, name, why)


SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
                "generation", "selfLink")  # fmt: skip


def merged(context: Context, old: Object, new: Object) -> Object:
    """What of `new` this write may change, the rest from `old` (rest.BeforeUpdate)."""
    resource, subresource = context.resource, context.subresource
    metadata, stored = new["metadata"], old["metadata"]
    for name in SERVER_OWNED:
        if name in stored:
            metadata[name] = stored[name]
        else:
            metadata.pop(name, None)
    if subresource in PARTS:
        return _part(old, new, PARTS[subresource], _kept_metadata(resource, subresource))
    if not subresource and resource.has_status:
        status: Any = old.get("status")
        if "status" not in old:
            new.pop("status", None)
        elif new.get("status") != status:
            # A patch leaves its private copy of it as it was: only others need one.
            new["status"] = private_copy(status)
    return new


PAST_PREPARE = frozenset({"status", "ephemeralcontainers", "resize"})
"""Subresources that change what an update of the whole object must leave alone."""

PARTS: dict[str, tuple[str, ...]] = {
    "status": ("status",),
    "approval": ("status", "conditions"),
    "ephemeralcontainers": ("spec", "ephemeralContainers"),
    "resize": ("spec",),
}
"""Subresources that are a part of the object: only that field and metadata are taken."""


def _kept_metadata(resource: Descriptor, subresource: str) -> Sequence[str]:
    """Fields of metadata that a write to a part of the object leaves as they were."""
    if subresource != "status":
        return ("ownerReferences",)
    return STATUS_ALONE if resource.custom is not None else resource.rules.status_keeps


def _part(old: Object, new: Object, path: tuple[str, ...], kept: Sequence[str]) -> Object:
    # Most writes leave the rest as it was: then comparing is cheaper than copying it.
    taken = path[0] if len(path) == 1 else ""
    result = {
        name: new[name] if new.get(name) == value else private_copy(value)
        for name, value in old.items()
        if name != "metadata" and name != taken
    }
    metadata, stored = new["metadata"], old["metadata"]
    result["metadata"] = metadata
    for name in kept:
        if name in stored:
            metadata[name] = stored[name]
        else:
            metadata.pop(name, None)
    source, target = new, result
    for name in path[:-1]:
        source = source.get(name) or {}
        target = target.setdefault(name, {})
    if path[-1] in source:
        target[path[-1]] = source[path[-1]]
    else:
        target.pop(path[-1], None)
    return result


def private_copy(value: Object) -> Object:
    """A deep copy by way of JSON: several times faster than copy.deepcopy."""
    copy: Object = loads(dumps(value))
    return copy


def _spec_changed(resource: Descriptor, old: Object, new: Object) -> bool:
    if resource.rules.grows is not None:
        return resource.rules.grows(new, old)
    names = (old.keys() | new.keys()) - {"metadata", "kind", "apiVersion"}
    if resource.custom is None or resource.has_status:
        names.discard("status")
    return any(old.get(name) != new.get(name) for name in names)


def _default(context: Context, old: Object, new: Object) -> None:
    """Set defaults, unless nothing but metadata differs: what is stored has its own."""
    rules = context.resource.rules
    if rules.defaults_metadata or new.keys() != old.keys():
        rules.default(new)
        return
    for name, value in old.items():
        if name != "metadata" and new[name] != value:
            rules.default(new)
            return


def _prepare(context: Context, new: Object, old: Object) -> None:
    rules = context.resource.rules
    part = rules.prepare_parts.get(context.subresource)
    if part is not None:
        part(new, old)
    elif context.subresource not in PAST_PREPARE and rules.prepare is not None:
        rules.prepare(new, old)
    _default(context, old, new)
    if context.resource.counts_generation and context.subresource != "status":
        stored = old["metadata"].get("generation", 0)
        new["metadata"]["generation"] = stored + _spec_changed(context.resource, old, new)


def _validate(context: Context, new: Object, old: Object) -> None:
    resource, subresource = context.resource, context.subresource
    rules = _checked_as(context).rules
    check = rules.validate_status if subresource == "status" else rules.validate
    check = rules.validate_parts.get(subresource, check)
    causes = meta.validate_meta_update(new, old, resource)
    causes = [*causes, *check(context.shown(new), context.shown(old))]
    if causes:
        raise errors.invalid(resource.group, resource.kind, old["metadata"]["name"], causes)


async def _store(context: Context, record: Record, new: Object, old: Object) -> Written:
    server = context.server
    if context.options.dry_run:
        return Written(with_version(new, record.modified))
    if may_go(new):
        gone = await server.store.delete(record.key, expected=record.modified, note=Note(None, old))
        return Written(with_version(new, gone.modified), deleted=True)
    new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    # An update of nothing writes only what would be stored otherwise now: by another key or in
    # another version.
    same = new == old and not server.store.is_stale(record)
    custom = context.resource.custom
    if same and (custom is None or custom.codec.view is None):
        return Written(old, splice_version(record.value, record.modified))
    value, stored = await _encoded(context.resource, new)
    known = server.cache.decode(record)
    if same and stored == known:
        return Written(old)
    note = Note(stored, known)
    put = await server.store.put(record.key, value, expected=record.modified, note=note)
    if stored is not new:
        return Written(with_version(new, put.modified))
    return Written(new, splice_version(value, put.modified))


def may_go(obj: Object) -> bool:
    """Was deletion only waiting for what is no longer there (finalizers, grace)?"""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if obj.get("kind") == "Namespace" and obj.get("spec", {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")
