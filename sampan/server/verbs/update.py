"""update: PUT of a whole object, or of one of its generic subresources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api import errors, meta
from sampan.api.descriptor import Descriptor
from sampan.api.errors import BadRequest, Object

from ..answer import answer_written
from ..exchange import Attributes, Request, Response
from ..options import write_options
from ..writing import Context, Written, create, match_namespace, private_copy, uid_conflict, update
from .create import decode_object

if TYPE_CHECKING:
    from ..app import Server

CREATE_ON_UPDATE = frozenset(
    {
        ("", "endpoints"),
        ("", "events"),
        ("", "limitranges"),
        ("", "services"),
        ("events.k8s.io", "events"),
        ("node.k8s.io", "runtimeclasses"),
        ("coordination.k8s.io", "leases"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("rbac.authorization.k8s.io", "roles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
    }
)
"""Resources that PUT creates when there is none (upstream's AllowCreateOnUpdate)."""

VERSION_REQUIRED = frozenset(
    {
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("apiregistration.k8s.io", "apiservices"),
        ("certificates.k8s.io", "clustertrustbundles"),
        ("coordination.k8s.io", "leases"),
        ("node.k8s.io", "runtimeclasses"),
        ("policy", "poddisruptionbudgets"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "csistoragecapacities"),
        ("storage.k8s.io", "volumeattachments"),
        ("storagemigration.k8s.io", "storageversionmigrations"),
    }
)
"""Resources whose PUT must name the version it replaces (upstream's AllowUnconditionalUpdate), as
that of every custom resource."""


def allows_any_version(resource: Descriptor) -> bool:
    return resource.custom is None and (resource.group, resource.plural) not in VERSION_REQUIRED


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    resource = attributes.resource
    assert resource is not None
    context = Context(server, attributes, resource, write_options(request, "UpdateOptions"))
    obj = decode_object(context, request, resource)
    check_name(attributes.name, obj)
    match_namespace(context, obj["metadata"])
    guarded = obj["metadata"].get("resourceVersion") not in (None, "", "0")

    def compute(old: Object, private: Object) -> Object:
        if not guarded and not allows_any_version(resource):
            # Upstream names the resource here where other refusals name the kind.
            causes = [meta.version_required()]
            raise errors.invalid(resource.group, resource.plural, attributes.name, causes)
        # Without a version there may be a second attempt, which needs the object as it came.
        return obj if guarded else private_copy(obj)

    try:
        written = await update(context, attributes.name, compute)
    except errors.NotFound:
        uid = obj["metadata"].get("uid")
        if uid:
            raise uid_conflict(context, attributes.name, uid, "") from None
        if (resource.group, resource.plural) not in CREATE_ON_UPDATE or attributes.subresource:
            raise
        written = await _create(context, obj)
    return answer_written(context, request, written)


async def _create(context: Context, obj: Object) -> Written:
    given = context.attributes
    context.attributes = Attributes(
        given.user, "create", given.resource, "", given.namespace, given.name, given.path
    )
    context.server.authorize(context.attributes)
    obj["metadata"].pop("resourceVersion", None)
    return await create(context, obj)


def check_name(name: str, obj: Object) -> None:
    """The name in the object is the one in the URL."""
    given = obj["metadata"].get("name")
    if not given:
        raise BadRequest(
            "the name of the object (based on URL) was undeterminable: name must be provided"
        )
    if given != name:
        raise BadRequest(
            f"the name of the object ({given}) does not match the name on the URL ({name})"
        )
