"""binding: the scheduler's word that a pod goes to a node, kept in one guarded write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api import fields, meta
from sampan.api.errors import BadRequest, Cause, Object, conflict, invalid
from sampan.api.resources import resource
from sampan.api.times import format_time
from sampan.store.interface import RevisionMismatch
from sampan.wire.json import encode_object

from ..answer import SUCCESS
from ..changes import Note
from ..exchange import Attributes, Request, Response, Write
from ..writing import ATTEMPTS, MODIFIED, Context, newest
from .reading import BINDING, Posted, read_created, read_posted

if TYPE_CHECKING:
    from ..app import Server


async def handle_pod(server: Server, request: Request, attributes: Attributes) -> Response:
    """POST pods/NAME/binding."""
    return await _bind(server, attributes, read_posted(request, attributes, BINDING))


async def handle_collection(server: Server, request: Request, attributes: Attributes) -> Response:
    """POST bindings: the same, the pod named in the body."""
    posted = read_created(request, BINDING)
    name = (posted.obj.get("metadata") or {}).get("name") or ""
    if not name:
        raise BadRequest("name must be provided")
    target = Attributes(
        attributes.user, "create", resource("pods"), "binding", attributes.namespace, name
    )
    return await _bind(server, target, posted)


async def _bind(server: Server, attributes: Attributes, posted: Posted) -> Response:
    body, options = posted.obj, posted.options
    causes = _causes(body)
    if causes:
        raise invalid("", "Binding", attributes.name, causes)
    write = Write(attributes, "CREATE", body, None, options.dry_run)
    await server.admission.admit(write)
    await server.admission.validate(write)
    await _store(Context(server, attributes, resource("pods"), options), body)
    return Response(201, obj=SUCCESS, headers=posted.headers())


async def _store(context: Context, body: Object) -> None:
    """The general path of an update would copy, default and validate anew what a binding leaves as
    it is; this is the write a large cluster makes for every pod, so it makes just the change.
    Nobody comes to own what it writes, as upstream: the scheduler does not own nodeName."""
    server, name = context.server, context.attributes.name
    now = format_time(server.clock.now())
    for _ in range(ATTEMPTS):
        record = newest(context, name)
        old = server.cache.peek(record)
        new = assign(old, body, now)
        if any((body.get("metadata") or {}).get(field) for field in MERGED):
            causes = meta.validate_meta_update(new, old, context.resource)
            if causes:
                raise invalid("", "Pod", name, causes)
        if context.options.dry_run:
            return
        value, note = encode_object(new), Note(new, old)
        try:
            await server.store.put(record.key, value, expected=record.modified, note=note)
            return
        except RevisionMismatch:
            continue
    raise conflict("", "pods", name, MODIFIED)


def _causes(body: Object) -> list[Cause]:
    target = body.get("target") or {}
    causes = []
    if target.get("kind", "") not in ("", "Node"):
        causes.append(fields.not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        causes.append(fields.required("target.name"))
    return causes


MERGED = ("annotations", "labels")
"""What a binding's metadata adds to the pod's."""


def assign(old: Object, body: Object, now: str) -> Object:
    """`old` bound as `body` says; shares with it what stays. Raises Conflict when it cannot be."""
    name = old["metadata"]["name"]
    given, spec = body.get("metadata") or {}, old.get("spec") or {}
    uid = given.get("uid")
    why = ""
    if uid and uid != old["metadata"].get("uid"):
        why = (
            f"Precondition failed: UID in precondition: {uid}, UID in object meta:"
            f" {old['metadata'].get('uid')}"
        )
    elif "deletionTimestamp" in old["metadata"]:
        why = f"pod {name} is being deleted, cannot be assigned to a host"
    elif spec.get("nodeName"):
        why = f"pod {name} is already assigned to node {fields.quote(spec['nodeName'])}"
    elif spec.get("schedulingGates"):
        why = f"pod {name} has non-empty .spec.schedulingGates"
    if why:
        raise conflict("", "pods/binding", name, why)
    metadata = {**old["metadata"]}
    for field in MERGED:
        if given.get(field):
            metadata[field] = {**(metadata.get(field) or {}), **given[field]}
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "observedGeneration": metadata.get("generation", 1),
        "lastProbeTime": None,
        "lastTransitionTime": now,
    }
    status = {**(old.get("status") or {})}
    # A place was kept for it; it has one now (KEP-5278).
    status.pop("nominatedNodeName", None)
    others = [item for item in status.get("conditions") or () if item["type"] != "PodScheduled"]
    status["conditions"] = [*others, scheduled]
    spec = {**spec, "nodeName": body["target"]["name"]}
    return {**old, "metadata": metadata, "spec": spec, "status": status}
