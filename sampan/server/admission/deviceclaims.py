"""Who may take devices: administrators' access by a label of the namespace (KEP-5018), and each
part of a claim's status by a right of its own (KEP-4817). Upstream checks this in its storage
(pkg/registry/resource), as rights on sub-resources that do not exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sampan.api import errors, fields
from sampan.api.errors import Cause, Object
from sampan.api.resources import resource

from ..authn.impersonation import NODE_NAME
from ..exchange import Attributes, User, Write
from ..outcome import forbidden
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

GROUP = "resource.k8s.io"
ADMIN_LABEL = "resource.kubernetes.io/admin-access"
ONLY_LABELLED = (
    f"admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
)
ACCOUNT = "system:serviceaccount:"
BINDING = ("allocation", "reservedFor")


def validate(server: Server, write: Write) -> None:
    causes = list(_admin_access(server, write))
    if write.attributes.subresource:
        new, old = write.obj.get("status") or {}, (write.old or {}).get("status") or {}
        causes += _binding(server, write.attributes, new, old)
        causes += _devices(server, write.attributes, new, old)
    target = write.attributes.resource
    if causes and target is not None:
        name = write.obj["metadata"].get("name", "")
        raise errors.invalid(target.group, target.kind, name, causes)


def _admin_access(server: Server, write: Write) -> Iterator[Cause]:
    """A request for the access of administrators, or one that is granted for the first time."""
    if write.attributes.subresource:
        path = "status.allocation.devices.results"
        results = _results(write.obj)
        if any(item.get("adminAccess") for item in _results(write.old or {})):
            return
    else:
        path = "spec.devices.requests"
        spec = write.obj.get("spec") or {}
        if write.obj.get("kind") == "ResourceClaimTemplate":
            spec = spec.get("spec") or {}
        requests: Sequence[Object] = (spec.get("devices") or {}).get("requests") or ()
        results = [item.get("exactly") or {} for item in requests]
    for position, item in enumerate(results):
        if item.get("adminAccess"):
            namespace = server.find_object(resource("namespaces"), "", write.attributes.namespace)
            labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
            if labels.get(ADMIN_LABEL) != "true":
                yield fields.forbidden(f"{path}[{position}].adminAccess", ONLY_LABELLED)
            return


def _results(claim: Object) -> Sequence[Object]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    found: Sequence[Object] = (allocation.get("devices") or {}).get("results") or ()
    return found


def _binding(server: Server, attributes: Attributes, new: Object, old: Object) -> Iterator[Cause]:
    """Allocation and reservation are the scheduler's, in the whole cluster."""
    if all((new.get(name) or None) == (old.get(name) or None) for name in BINDING):
        return
    asked = _asked(attributes, attributes.verb, "binding", "", "")
    why = _refusal(server, asked)
    if why:
        yield fields.forbidden(
            "status",
            "changing status.allocation or status.reservedFor requires "
            f'resource="resourceclaims/binding", verb="{asked.verb}" permission: {why}',
        )


def _devices(server: Server, attributes: Attributes, new: Object, old: Object) -> Iterator[Cause]:
    """What is said of a device is its driver's: on the node of the claim, or on any."""
    verbs = [f"arbitrary-node:{attributes.verb}"]
    if _is_beside(attributes.user, _node_of(new.get("allocation") or {})):
        verbs.insert(0, f"associated-node:{attributes.verb}")
    for driver in sorted(_changed_drivers(new, old)):
        refusals = [
            _refusal(server, _asked(attributes, verb, "driver", attributes.namespace, driver))
            for verb in verbs
        ]
        if all(refusals):
            yield fields.forbidden(
                "status.devices",
                'changing status.devices requires resource="resourceclaims/driver", '
                f'verb="[{" ".join(verbs)}]" permission: {refusals[0]}',
            )


def _asked(
    attributes: Attributes, verb: str, subresource: str, namespace: str, name: str
) -> Attributes:
    return Attributes(attributes.user, verb, attributes.resource, subresource, namespace, name)


def _refusal(server: Server, asked: Attributes) -> str:
    """Why the user may not, "" if they may."""
    target = (GROUP, "resourceclaims", asked.subresource)
    allowed, reason = server.authorizer.allows(
        asked.user, asked.verb, target, asked.namespace, asked.name
    )
    return "" if allowed else str(forbidden(asked, reason).message)


def _changed_drivers(new: Object, old: Object) -> set[str]:
    """The drivers whose devices have come, gone or changed."""
    before, now = _by_device(old), _by_device(new)
    changed = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
    return {driver for driver, *_ in changed}


def _by_device(status: Object) -> dict[tuple[str, ...], Object]:
    key = ("driver", "pool", "device", "shareID")
    return {
        tuple(str(item.get(name) or "") for name in key): item
        for item in status.get("devices") or ()
    }


def _node_of(allocation: Object) -> str:
    """The one node a claim is allocated on, "" if it is not one by its name."""
    selector = allocation.get("nodeSelector") or {}
    terms: Sequence[Object] = selector.get("nodeSelectorTerms") or ()
    if len(terms) != 1 or terms[0].get("matchExpressions"):
        return ""
    wanted: Sequence[Object] = terms[0].get("matchFields") or ()
    if len(wanted) != 1 or len(wanted[0].get("values") or ()) != 1:
        return ""
    named = (wanted[0].get("key"), wanted[0].get("operator")) == ("metadata.name", "In")
    return str(wanted[0]["values"][0]) if named else ""


def _is_beside(user: User, node: str) -> bool:
    """Is the user a service account whose token is of a pod on this node?"""
    return (
        bool(node)
        and user.name.startswith(ACCOUNT)
        and tuple(user.extra.get(NODE_NAME, ())) == (node,)
    )


PLUGIN = Plugin(
    "DeviceClaims",
    {
        (GROUP, "resourceclaims"): ("CREATE",),
        (GROUP, "resourceclaimtemplates"): ("CREATE",),
        (GROUP, "resourceclaims/status"): ("UPDATE",),
    },
    validate=validate,
)
