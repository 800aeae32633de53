"""binding: the scheduler's word that a pod goes to a node, kept in one guarded write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api import fields
from sampan.api.errors import BadRequest, Cause, Object, conflict, invalid
from sampan.api.resources import resource
from sampan.api.times import format_time

from ..exchange import Attributes, Request, Response, Write
from ..writing import Context, update
from .reading import BINDING, Posted, read_created, read_posted

if TYPE_CHECKING:
    from ..app import Server

SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


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
    now = format_time(server.clock.now())
    context = Context(server, attributes, resource("pods"), options)
    await update(context, attributes.name, lambda old, pod: assign(old, pod, body, now))
    return Response(201, obj=SUCCESS, headers=posted.headers())


def _causes(body: Object) -> list[Cause]:
    target = body.get("target") or {}
    causes = []
    if target.get("kind", "") not in ("", "Node"):
        causes.append(fields.not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        causes.append(fields.required("target.name"))
    return causes


def assign(old: Object, pod: Object, body: Object, now: str) -> Object:
    """`pod`, a private copy of `old`, bound as `body` says. Raises Conflict when it cannot be."""
    name = old["metadata"]["name"]
    meta, spec = body.get("metadata") or {}, old.get("spec") or {}
    uid = meta.get("uid")
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
    pod["metadata"].pop("resourceVersion", None)
    pod["spec"]["nodeName"] = body["target"]["name"]
    for field in ("annotations", "labels"):
        if meta.get(field):
            pod["metadata"][field] = {**(pod["metadata"].get(field) or {}), **meta[field]}
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "observedGeneration": pod["metadata"].get("generation", 1),
        "lastProbeTime": None,
        "lastTransitionTime": now,
    }
    status = pod.setdefault("status", {})
    # A place was kept for it; it has one now (KEP-5278).
    status.pop("nominatedNodeName", None)
    others = [item for item in status.get("conditions") or () if item["type"] != "PodScheduled"]
    status["conditions"] = [*others, scheduled]
    return pod
