"""The objects of a write as webhooks see them, and a webhook's patch taken back into the write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api.descriptor import Descriptor
from sampan.api.errors import InternalError, Object, StatusError
from sampan.wire.jsonpatch import json_patch
from sampan.wire.patcherror import PatchError

from ...conversion import hub_of, written_as
from ...exchange import Write
from ...options import WriteOptions
from ...ownership.entries import problem_of
from ...webhooks.target import CallFailed

if TYPE_CHECKING:
    from ...app import Server

LATER = ("uid", "creationTimestamp", "generation")
"""Metadata of a new object that upstream sets only behind the mutating hooks."""
BOOLEANS = frozenset({"stdin", "stdout", "stderr", "tty"})
TRUE = ("true", "1", "")
PARTS = {"status": "status", "approval": "status"}
"""The field a subresource is about; spec for the others."""
SUFFIX = 5
"""Letters that generateName adds."""


def has_own_kind(write: Write) -> bool:
    """Is the object of the write of another kind than the resource (Binding, Eviction, Scale)?"""
    attributes = write.attributes
    target = attributes.resource
    if target is None or not attributes.subresource:
        return False
    part = target.subresources.get(attributes.subresource)
    return part is not None and part.kind != target.kind


async def objects_for(
    write: Write, target: Descriptor, *, early: bool
) -> tuple[Object | None, Object | None]:
    """The new and the old object in the form of `target`. `early`: what is set only later in a
    create is left out."""
    if write.operation == "CONNECT":
        return connect_options(write), None
    new: Object | None = None if write.operation == "DELETE" else write.obj
    if new is not None and early and write.operation == "CREATE" and not has_own_kind(write):
        new = _without_later(new)
    old = write.old
    return (
        None if new is None else await _shown(write, new, target),
        None if old is None else await _shown(write, old, target),
    )


async def _shown(write: Write, obj: Object, target: Descriptor) -> Object:
    asked = write.attributes.resource
    assert asked is not None
    if write.attributes.subresource == "scale" and obj.get("kind") != "Scale":
        from ...subresources.scale import scale_of

        return scale_of(obj, asked, unset=0)
    if has_own_kind(write):
        kind = target.subresources[write.attributes.subresource]
        group = kind.group or target.group if kind.version else target.group
        version = kind.version or target.version
        return {**obj, "kind": kind.kind, "apiVersion": f"{group}/{version}" if group else version}
    view = written_as(target)
    if view is not None:
        return view.from_hub(obj) if obj.get("apiVersion") != target.api_version else obj
    return await converted(obj, target)


async def converted(obj: Object, target: Descriptor) -> Object:
    """An object of a custom resource in another of its versions; built-in ones are there already.
    Raises StatusErrors (a conversion webhook that fails)."""
    if target.custom is None or obj.get("apiVersion") in (None, target.api_version):
        return obj
    result: Object = await target.custom.codec.converted(obj)
    return result


def connect_options(write: Write) -> Object:
    """The query of a CONNECT as its options kind (PodExecOptions and its like)."""
    attributes = write.attributes
    target = attributes.resource
    assert target is not None
    part = target.subresources.get(attributes.subresource)
    out: Object = {"kind": part.kind if part is not None else "", "apiVersion": "v1"}
    for name, value in write.obj.items():
        values: Sequence[Any] = value if isinstance(value, list) else [value]
        if name in BOOLEANS:
            if values[0] in TRUE:
                out[name] = True
        elif name == "ports":
            out[name] = [int(text) for item in values for text in str(item).split(",") if text]
        elif name == "command":
            out[name] = list(values)
        elif values:
            out[name] = values[0]
    return out


def _without_later(obj: Object) -> Object:
    metadata = {
        name: value for name, value in (obj.get("metadata") or {}).items() if name not in LATER
    }
    base = metadata.get("generateName")
    if base and _is_generated(metadata.get("name") or "", base):
        del metadata["name"]
    return {**obj, "metadata": metadata}


def _is_generated(name: str, base: str) -> bool:
    return len(name) > SUFFIX and base.startswith(name[:-SUFFIX])


def default_early(write: Write) -> None:
    """Webhooks see defaulted objects, as upstream's decoder makes them."""
    target = write.attributes.resource
    if target is None or write.operation == "CONNECT" or has_own_kind(write):
        return
    hub_of(target, written_as(target)).rules.default(write.obj)


async def take_patch(
    server: Server, write: Write, target: Descriptor, shown: Object, patch: bytes
) -> bool:
    """Apply a webhook's JSON patch to `shown` and take the result into the write. Returns whether
    anything changed. Raises CallFailed (no patch) and InternalError (it does not apply)."""
    try:
        operations = orjson.loads(patch)
        if not isinstance(operations, list):
            raise ValueError("not a list of operations")
    except ValueError as error:
        raise CallFailed(f"received undecodable patch in webhook response: {error}") from None
    if not operations:
        return False
    try:
        patched = json_patch(shown, operations)
    except PatchError as error:
        raise InternalError(f"Internal error occurred: {error}") from None
    if patched == shown:
        return False
    if not isinstance(patched, dict) or not isinstance(patched.get("metadata", {}), dict):
        raise InternalError("Internal error occurred: the patched object is not an object")
    if has_own_kind(write):
        _take_part(write, patched)
        return True
    before = write.obj
    obj = await _decoded(server, write, target, patched)
    _restore(write, obj, before)
    write.obj = obj
    default_early(write)
    return bool(write.obj != before)


def _take_part(write: Write, patched: Object) -> None:
    """The patched Binding, Eviction, Scale or TokenRequest."""
    if write.attributes.subresource == "scale" and write.obj.get("kind") != "Scale":
        replicas = (patched.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int):
            raise InternalError("Internal error occurred: spec.replicas is not a number")
        write.obj.setdefault("spec", {})["replicas"] = replicas
        return
    write.obj.clear()
    write.obj.update(patched)


async def _decoded(server: Server, write: Write, target: Descriptor, patched: Object) -> Object:
    """The patched object as what the write goes on with: pruned, of the stored form, private."""
    # Imported here: writing imports admission.
    from ...verbs.create import decode_value
    from ...writing import Context

    asked = write.attributes.resource
    assert asked is not None
    context = Context(server, write.attributes, target, WriteOptions(field_validation="Ignore"))
    try:
        obj = decode_value(context, patched, target, shared=True)
    except StatusError as error:
        raise InternalError(f"Internal error occurred: {error.message}") from None
    return await converted(obj, asked)


def _check_owners(write: Write, metadata: Object, before: list[Object] | None) -> None:
    """Whoever changes managedFields must leave them readable."""
    given = metadata.get("managedFields")
    if given == before:
        return
    problem = problem_of(given or [])
    if problem:
        write.warnings.append(
            ".metadata.managedFields was in an invalid state after admission; this could be caused"
            f" by an outdated mutating admission controller; please fix your requests: {problem}"
        )
        given = before
    if given:
        metadata["managedFields"] = given
    else:
        metadata.pop("managedFields", None)


def _restore(write: Write, obj: Object, before: Mapping[str, Any]) -> None:
    """What the server has set already and webhooks did not see, and what this write must leave
    alone: the status, or all but the status."""
    metadata, known = obj.setdefault("metadata", {}), before.get("metadata") or {}
    for name in LATER:
        if name in known:
            metadata[name] = known[name]
        else:
            metadata.pop(name, None)
    if not metadata.get("name") and known.get("name"):
        metadata["name"] = known["name"]
    _check_owners(write, metadata, known.get("managedFields"))
    target, part = write.attributes.resource, write.attributes.subresource
    if write.operation != "UPDATE" or target is None:
        return
    if part:
        kept = (obj.keys() | before.keys()) - {"metadata", *PARTS.get(part, "spec")}
    else:
        kept = {"status"} if target.has_status else set()
    for name in kept:
        if name in before:
            obj[name] = before[name]
        else:
            obj.pop(name, None)
