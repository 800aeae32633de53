"""scale: the number of replicas of anything that has one, as an autoscaling/v1 Scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sampan.api import fields
from sampan.api.descriptor import Column, Descriptor, Kind
from sampan.api.errors import BadRequest, Object, invalid
from sampan.api.kinds.printing import AGE, NAME, age, name
from sampan.api.selectors import from_label_selector, from_map

from ..answer import answer_object, answer_written
from ..exchange import Attributes, Request, Response
from ..negotiate import form_of
from ..options import DEFAULTS, WriteOptions, write_options
from ..routes import method_not_allowed
from ..verbs.patch import patch_of
from ..writing import Context, Written, update
from .reading import SCALE, decode, read_body

if TYPE_CHECKING:
    from ..app import Server

GROUP, API_VERSION, KIND = "autoscaling", "autoscaling/v1", "Scale"
COLUMNS = (
    NAME,
    Column("Desired", "integer", "The number of replicas wanted."),
    Column("Available", "integer", "The number of replicas there are."),
    AGE,
)
COPIED = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    """GET, PUT and PATCH of .../scale."""
    resource = attributes.resource
    if resource is None:
        raise method_not_allowed()
    if request.method in ("GET", "HEAD"):
        scale = scale_of(server.get_object(resource, attributes.namespace, attributes.name))
        if request.local:
            return Response(obj=scale)
        context = _context(server, attributes, resource)
        return answer_object(context, request, scale, form_of(request.headers.get("accept", "")))
    if request.method == "PUT":
        body = read_body(request, SCALE)
        change: Callable[[Object], Any] = lambda _: body  # noqa: E731
        options = write_options(request, "UpdateOptions")
    elif request.method == "PATCH":
        change = patch_of(request, replace(resource, definition=SCALE.definition))
        options = write_options(request, "PatchOptions")
    else:
        raise method_not_allowed()
    context = _context(server, attributes, resource, options)

    def compute(old: Object, private: Object) -> Object:
        wanted = change(scale_of(old))
        return _apply(wanted, old, private)

    written = await update(context, attributes.name, compute)
    return answer_written(context, request, Written(scale_of(written.obj)))


def _context(
    server: Server,
    attributes: Attributes,
    resource: Descriptor,
    options: WriteOptions = DEFAULTS,
) -> Context:
    """The context of the scaled object, whose answers print as a Scale."""
    context = Context(server, attributes, resource, options)
    context.asked = replace(resource, rules=PRINTED)
    return context


def _cells(scale: Object, now_s: float) -> list[Any]:
    desired, available = scale["spec"].get("replicas", 0), scale["status"]["replicas"]
    return [name(scale), desired, available, age(scale, now_s)]


PRINTED = Kind(group=GROUP, version="v1", kind=KIND, columns=COLUMNS, cells=_cells)


def scale_of(obj: Object) -> Object:
    """The Scale that shows `obj`."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    meta = obj["metadata"]
    shown: Object = {"replicas": status.get("replicas", 0)}
    selector = _selector_text(spec.get("selector") or {})
    if selector:
        shown["selector"] = selector
    replicas = spec.get("replicas", 1)
    return {
        "kind": KIND,
        "apiVersion": API_VERSION,
        "metadata": {field: meta[field] for field in COPIED if field in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": shown,
    }


def _apply(wanted: Any, old: Object, private: Object) -> Object:
    """`private` with the replicas that the Scale `wanted` asks for."""
    wanted = decode(wanted, SCALE)
    meta = wanted.get("metadata") or {}
    name = old["metadata"]["name"]
    if meta.get("name", name) != name:
        raise BadRequest(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    replicas = (wanted.get("spec") or {}).get("replicas") or 0
    if replicas < 0:
        cause = fields.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(GROUP, KIND, name, [cause])
    version = meta.get("resourceVersion")
    if version and version != old["metadata"].get("resourceVersion"):
        # The guarded update compares it and answers the conflict.
        private["metadata"]["resourceVersion"] = version
    else:
        private["metadata"].pop("resourceVersion", None)
    private.setdefault("spec", {})["replicas"] = replicas
    return private


def _selector_text(selector: Object) -> str:
    """A selector as text; replication controllers have a plain map."""
    if "matchLabels" in selector or "matchExpressions" in selector:
        return str(from_label_selector(selector))
    return str(from_map(selector))
