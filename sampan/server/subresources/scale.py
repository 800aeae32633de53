"""scale: the number of replicas of anything that has one, as an autoscaling/v1 Scale.

Built-in kinds keep it in spec.replicas, custom resources where their definition says. Whoever sets
it here owns that field of the object (upstream's ScaleHandler).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from sampan.api import fields
from sampan.api.descriptor import Column, Descriptor, Kind
from sampan.api.errors import BadRequest, Object, invalid
from sampan.api.kinds.printing import AGE, NAME, age, name
from sampan.api.selectors import from_label_selector, from_map
from sampan.client.interface import APPLY_PATCH

from ..answer import answer_object, answer_written
from ..body import media_type
from ..custom.scaling import custom_replicas, stored_object, with_custom_replicas
from ..exchange import Attributes, Request, Response
from ..negotiate import form_of
from ..options import DEFAULTS, WriteOptions, write_options
from ..ownership.applying import Application, applied
from ..ownership.entries import APPLY
from ..ownership.plans import plan_of
from ..ownership.recording import dialects_of, entries_of, who_of
from ..routes import method_not_allowed
from ..verbs import patchfields
from ..verbs.apply import apply_options, read_configuration
from ..verbs.patch import patch_of
from ..writing import Context, Written, private_copy, update
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
UNSET = -(2**31)
"""What a Scale shows to a patch where a custom resource has no replicas yet: a patch that leaves it
alone is refused, one that sets it is not (as upstream)."""
COPIED = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    """GET, PUT and PATCH of .../scale."""
    resource = attributes.resource
    if resource is None:
        raise method_not_allowed()
    if request.method in ("GET", "HEAD"):
        found = await stored_object(server, resource, attributes.namespace, attributes.name)
        scale = scale_of(found, resource)
        if request.local:
            return Response(obj=scale)
        context = _context(server, attributes, resource)
        return answer_object(context, request, scale, form_of(request.headers.get("accept", "")))
    if request.method == "PATCH" and media_type(request) == APPLY_PATCH:
        return await _handle_apply(server, request, attributes)
    if request.method not in ("PUT", "PATCH"):
        raise method_not_allowed()
    kind = "UpdateOptions" if request.method == "PUT" else "PatchOptions"
    context = _context(server, attributes, resource, write_options(request, kind))
    change = _change(context, request, resource)

    def compute(old: Object, private: Object) -> Object:
        wanted = change(scale_of(old, resource, unset=UNSET))
        return _apply(wanted, old, private, resource)

    written = await update(context, attributes.name, compute)
    return answer_written(context, request, Written(scale_of(written.obj, resource, unset=0)))


def _change(context: Context, request: Request, resource: Descriptor) -> Callable[[Object], Any]:
    """What a PUT or PATCH makes of the Scale it gets, checked as fieldValidation says."""
    if request.method == "PUT":
        body = read_body(request, SCALE, context)
        return lambda _: body
    problems: list[str] = []
    patch = patch_of(
        request, replace(resource, definition=SCALE.definition, structure=None), problems
    )

    def changed(scale: Object) -> Any:
        result = patch(scale)
        patchfields.report(context, request, result, (problems, SCALE.definition))
        return result

    return changed


async def _handle_apply(server: Server, request: Request, attributes: Attributes) -> Response:
    """Server-side apply of a Scale: of one field of its object, by the manager as scaler."""
    resource = attributes.resource
    assert resource is not None
    context = _context(server, attributes, resource, apply_options(request))
    raw = read_configuration(context, request, API_VERSION, KIND)
    scale = decode(private_copy(raw), SCALE)
    replicas = (scale.get("spec") or {}).get("replicas")
    config: Object = {}
    if replicas is not None:
        config = _with_replicas(config, resource, replicas)
    apply = Application(
        dialects=dialects_of(context),
        who=who_of(context, APPLY),
        config={"metadata": {}, **config},
        owned=plan_of(resource).owned(config) or {},
        reset={},
        force=context.options.force,
        now=server.timestamp(),
        shown_version=API_VERSION,
    )

    def compute(old: Object, private: Object) -> Object:
        context.applied = applied(apply, old, entries_of(context, old)).entries
        if replicas is None:
            private["metadata"].pop("resourceVersion", None)
            return private
        return _apply(scale, old, private, resource)

    written = await update(context, attributes.name, compute)
    return answer_written(context, request, Written(scale_of(written.obj, resource, unset=0)))


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


def scale_of(obj: Object, resource: Descriptor, *, unset: int | None = None) -> Object:
    """The Scale that shows `obj`. A custom resource may have no replicas: then it shows `unset`,
    or NotFound is raised."""
    meta = obj["metadata"]
    if resource.custom is not None:
        replicas, shown = custom_replicas(obj, resource, unset=unset)
    else:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        replicas, shown = spec.get("replicas", 1), {"replicas": status.get("replicas", 0)}
        selector = _selector_text(spec.get("selector") or {})
        if selector:
            shown["selector"] = selector
    return {
        "kind": KIND,
        "apiVersion": API_VERSION,
        "metadata": {field: meta[field] for field in COPIED if field in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": shown,
    }


def _with_replicas(obj: Object, resource: Descriptor, replicas: int) -> Object:
    """`obj`, which is private, with that many replicas."""
    if resource.custom is not None:
        return with_custom_replicas(obj, resource, replicas)
    obj.setdefault("spec", {})["replicas"] = replicas
    return obj


def _apply(wanted: Any, old: Object, private: Object, resource: Descriptor) -> Object:
    """`private` with the replicas that the Scale `wanted` asks for."""
    wanted = decode(wanted, SCALE)
    meta = wanted.get("metadata") or {}
    name = old["metadata"]["name"]
    if meta.get("name", name) != name:
        raise BadRequest(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    replicas = (wanted.get("spec") or {}).get("replicas") or 0
    if replicas == UNSET and resource.custom is not None and resource.custom.scale is not None:
        path = resource.custom.scale.spec_replicas
        raise BadRequest(f'the spec replicas field "{path}" cannot be empty')
    if replicas < 0:
        cause = fields.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(GROUP, KIND, name, [cause])
    version = meta.get("resourceVersion")
    if version and version != old["metadata"].get("resourceVersion"):
        # The guarded update compares it and answers the conflict.
        private["metadata"]["resourceVersion"] = version
    else:
        private["metadata"].pop("resourceVersion", None)
    return _with_replicas(private, resource, replicas)


def _selector_text(selector: Object) -> str:
    """A selector as text; replication controllers have a plain map."""
    if "matchLabels" in selector or "matchExpressions" in selector:
        return str(from_label_selector(selector))
    return str(from_map(selector))
