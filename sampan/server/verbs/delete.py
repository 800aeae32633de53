"""delete: at once, or by marking the object until finalizers and grace are done with it.

Follows rest.BeforeDelete and the generic registry's Delete. A pod with a node gets time: it is
marked, and its node deletes it with grace 0 when its containers are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orjson import loads

from sampan.api import errors
from sampan.api.errors import Object
from sampan.api.times import format_time, parse_time
from sampan.store.interface import Record, RevisionMismatch
from sampan.wire.json import encode_object, splice_version

from ..answer import answer_object, warning_headers
from ..body import read_value
from ..changes import Note, with_version
from ..custom.naming import mark_definition
from ..deleteoptions import DeleteOptions, delete_options
from ..exchange import Attributes, Request, Response, Write
from ..negotiate import form_of
from ..options import WriteOptions
from ..writing import ATTEMPTS, MODIFIED, Context, Written, newest

if TYPE_CHECKING:
    from ..app import Server

RETURNS_OBJECT = frozenset(
    {"pods", "namespaces", "persistentvolumes", "persistentvolumeclaims", "podtemplates",
     "resourcequotas", "serviceaccounts", "services"}
)  # fmt: skip
"""Core plurals whose deletion answers with the object, not a Status."""

ORPHANS_BY_DEFAULT = frozenset({("batch", "jobs"), ("", "replicationcontrollers")})
"""Kinds whose v1 storage keeps dependents unless told otherwise."""

UNCOLLECTED = frozenset({("", "events")})
"""Kinds that own nothing: how their dependents should go is not heard (rest.Unsupported)."""

JOB_WARNING = (
    "child pods are preserved by default when jobs are deleted; set "
    "propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress "
    "this warning"
)
ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
FINISHED = ("Succeeded", "Failed")


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    resource = attributes.resource
    assert resource is not None
    body = read_value(request) if request.body else None
    options = delete_options(request, body)
    context = Context(server, attributes, resource, WriteOptions(dry_run=options.dry_run))
    written = await delete(context, attributes.name, options)
    headers = warning_headers(context.warnings)
    if written.deleted and (resource.group or resource.plural not in RETURNS_OBJECT):
        return Response(200, obj=_success(context, written.obj), headers=headers)
    if request.local:
        return Response(200, obj=context.shown(written.obj))
    status = 202 if options.dependents_go and not written.deleted else 200
    form = form_of(request.headers.get("accept", ""))
    if form.plain and written.body is not None and context.view is None:
        return Response(status, written.body, headers=headers)
    response = answer_object(context, request, written.obj, form)
    response.status, response.headers = status, headers
    return response


def _success(context: Context, obj: Object) -> Object:
    details: Object = {"name": obj["metadata"]["name"]}
    if context.resource.group:
        details["group"] = context.resource.group
    details |= {"kind": context.resource.plural, "uid": obj["metadata"].get("uid", "")}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


async def delete(context: Context, name: str, options: DeleteOptions) -> Written:
    """Delete one object as `options` ask. `deleted` tells whether it is gone."""
    for _ in range(ATTEMPTS):
        record = newest(context, name)
        try:
            return await _delete_once(context, record, options)
        except RevisionMismatch:
            continue
    resource = context.resource
    raise errors.conflict(resource.group, resource.plural, name, MODIFIED)


async def _delete_once(context: Context, record: Record, options: DeleteOptions) -> Written:
    server = context.server
    custom = context.resource.custom
    old = stored = server.cache.decode(record)
    if custom is not None and custom.codec.view is not None:
        old, _ = await custom.codec.opened(record)
    _check_preconditions(context, old, options)
    write = Write(
        context.attributes, "DELETE", {}, old, options.dry_run, options.raw, context.warnings
    )
    await server.admission.validate(write)
    new: Object = loads(record.value)
    if _mark(context, new, options):
        marked = new["metadata"]
        if new == {**stored, "metadata": _without_version(stored["metadata"])}:
            body = splice_version(record.value, record.modified)
            return Written(old, body if old is stored else None)
        if options.dry_run:
            return Written(with_version({**old, "metadata": marked}, record.modified))
        value = encode_object(new)
        put = await server.store.put(
            record.key, value, expected=record.modified, note=Note(new, stored)
        )
        if old is not stored:
            # Stored in one version, shown in another.
            return Written(with_version({**old, "metadata": marked}, put.modified))
        return Written(new, splice_version(value, put.modified))
    if options.dry_run:
        return Written(old, deleted=True)
    gone = await server.store.delete(record.key, expected=record.modified, note=Note(None, stored))
    return Written(with_version(old, gone.modified), deleted=True)


def _without_version(metadata: Object) -> Object:
    return {name: value for name, value in metadata.items() if name != "resourceVersion"}


def _check_preconditions(context: Context, old: Object, options: DeleteOptions) -> None:
    resource, metadata = context.resource, old["metadata"]
    for field, given, stored, happened in (
        ("UID", options.uid, metadata.get("uid", ""), "deleted and then recreated"),
        ("ResourceVersion", options.resource_version, metadata["resourceVersion"], "modified"),
    ):
        if given is not None and given != stored:
            why = (
                f"the {field} in the precondition ({given}) does not match the {field} in record "
                f"({stored}). The object might have been {happened}"
            )
            # Upstream names the kind here, where other conflicts name the resource.
            raise errors.conflict(resource.group, resource.kind, metadata["name"], why)


def _mark(context: Context, new: Object, options: DeleteOptions) -> bool:
    """Mark `new` (private) as being deleted; False when nothing holds it back."""
    resource, metadata = context.resource, new["metadata"]
    now_s = context.server.clock.now()
    if resource.plural == "namespaces" and not resource.group:
        return _mark_namespace(new, now_s)
    if resource.plural == "customresourcedefinitions" and "deletionTimestamp" not in metadata:
        mark_definition(new, now_s)
    grace_s = 0
    if resource.plural == "pods" and not resource.group:
        pending_s = metadata.get("deletionGracePeriodSeconds")
        grace_s = _grace_s(new, options) if pending_s is None else _shorter_s(options, pending_s)
        if grace_s == pending_s:
            # It goes already: not even what becomes of its dependents is changed.
            return True
    finalizers = _finalizers(context, new, options)
    if finalizers != metadata.get("finalizers", []):
        metadata["finalizers"] = finalizers
    if grace_s > 0 or finalizers:
        _set_deletion(new, now_s, grace_s)
        return True
    return False


def _mark_namespace(new: Object, now_s: float) -> bool:
    metadata = new["metadata"]
    if "deletionTimestamp" not in metadata:
        metadata["deletionTimestamp"] = format_time(now_s)
        new["status"] = {**(new.get("status") or {}), "phase": "Terminating"}
        return True
    return bool(new.get("spec", {}).get("finalizers") or metadata.get("finalizers"))


def _finalizers(context: Context, new: Object, options: DeleteOptions) -> list[str]:
    """Finalizers with those of the garbage collector as the propagation policy wants them."""
    finalizers: list[str] = new["metadata"].get("finalizers", [])
    policy = options.propagation
    key = (context.resource.group, context.resource.plural)
    if key in UNCOLLECTED:
        return [item for item in finalizers if item not in (ORPHAN, FOREGROUND)]
    if not policy:
        if ORPHAN in finalizers or FOREGROUND in finalizers:
            return finalizers
        if key in ORPHANS_BY_DEFAULT:
            policy = "Orphan"
            if key == ("batch", "jobs"):
                context.warnings.append(JOB_WARNING)
    kept = [item for item in finalizers if item not in (ORPHAN, FOREGROUND)]
    if policy == "Orphan":
        kept.append(ORPHAN)
    elif policy == "Foreground":
        kept.append(FOREGROUND)
    return kept


def _grace_s(pod: Object, options: DeleteOptions) -> int:
    """Seconds a pod may still live. Only pods are asked for any."""
    spec = pod.get("spec") or {}
    if not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in FINISHED:
        return 0
    if options.grace_s is None:
        return int(spec.get("terminationGracePeriodSeconds", 30))
    return _positive(options.grace_s)


def _shorter_s(options: DeleteOptions, pending_s: int) -> int:
    """The same of one that is going: what it has, unless a shorter period is asked for."""
    return pending_s if options.grace_s is None else min(_positive(options.grace_s), pending_s)


def _positive(grace_s: int) -> int:
    """Upstream takes a negative period as one second."""
    return 1 if grace_s < 0 else grace_s


def _set_deletion(obj: Object, now_s: float, grace_s: int) -> None:
    metadata = obj["metadata"]
    marked = metadata.get("deletionTimestamp")
    if marked is not None:
        before_s = metadata.get("deletionGracePeriodSeconds") or 0
        if grace_s >= before_s:
            return
        # A shorter period counts from when deletion was first asked for.
        metadata["deletionTimestamp"] = format_time(parse_time(marked) - before_s + grace_s)
        metadata["deletionGracePeriodSeconds"] = grace_s
        return
    metadata["deletionTimestamp"] = format_time(now_s + grace_s)
    metadata["deletionGracePeriodSeconds"] = grace_s
    if metadata.get("generation"):
        metadata["generation"] += 1
