"""Pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ... import fields
from ...descriptor import Kind, Subresource
from ...errors import Cause, Object
from .podspec.cells import COLUMNS, pod_cells
from .podspec.default import default_pod_only, default_spec
from .podspec.matchkeys import merge_label_keys
from .podspec.profiles import check_profiles_agree, take_apparmor
from .podspec.proven import Proven, digest_of
from .podspec.quality import qos_class
from .podspec.resize import check_resize, keep_unresized
from .podspec.status import check_status, keep_observed
from .podspec.update import check_ephemeral_update, check_update
from .podspec.validate import MIRROR, check_pod_annotations, check_spec
from .podspec.warnings import warn_pod

PROXY_VERBS = ("create", "delete", "get", "patch", "update")
SUBRESOURCES = {
    "attach": Subresource("PodAttachOptions", ("create", "get"), version="v1"),
    "exec": Subresource("PodExecOptions", ("create", "get"), version="v1"),
    "portforward": Subresource("PodPortForwardOptions", ("create", "get"), version="v1"),
    "proxy": Subresource("PodProxyOptions", PROXY_VERBS, version="v1"),
}
GATED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
    "lastProbeTime": None,
    "lastTransitionTime": None,
}

RIGHT = Proven()
"""Specs without a fault."""


def prepare(obj: Object, old: Object | None) -> Sequence[str]:
    """A new pod is Pending, and its quality of service is fixed for good."""
    if old is not None:
        return ()
    spec = obj.get("spec") or {}
    obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
    if spec.get("affinity") or spec.get("topologySpreadConstraints"):
        merge_label_keys(spec, obj["metadata"].get("labels") or {})
    if spec.get("schedulingGates"):
        # Without times: the condition is part of the pod's birth.
        gated = {key: value for key, value in GATED.items() if value is not None}
        obj["status"]["conditions"] = [gated]
    return take_apparmor(obj) if obj["metadata"].get("annotations") else ()


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    default_spec(spec)
    default_pod_only(spec)
    status = obj.get("status")
    if status is not None and "qosClass" not in status:
        status["qosClass"] = qos_class(spec)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec, annotations = obj["spec"], obj["metadata"].get("annotations")
    if old is None:
        _check_whole(obj, out)
        if spec.get("ephemeralContainers"):
            out.append(fields.forbidden("spec.ephemeralContainers", "cannot be set on create"))
        if spec.get("nodeName") and spec.get("schedulingGates"):
            why = "cannot be set until all schedulingGates have been cleared"
            out.append(fields.forbidden("spec.nodeName", why))
        if annotations:
            check_profiles_agree(annotations, spec, out)
        return out
    before = old["metadata"].get("annotations")
    if annotations != before:
        check_pod_annotations(annotations, spec, "metadata.annotations", out)
        _check_mirror(annotations or {}, before or {}, out)
    if spec != old["spec"]:
        check_spec(spec, "spec", out, pod_name=obj["metadata"].get("name", ""), in_pod=True)
        check_update(spec, old["spec"], out)
    return out


def _check_whole(obj: Object, out: list[Cause]) -> None:
    spec = obj["spec"]
    check_pod_annotations(obj["metadata"].get("annotations"), spec, "metadata.annotations", out)
    digest = digest_of(spec)
    if digest not in RIGHT:
        found = len(out)
        check_spec(spec, "spec", out, pod_name=obj["metadata"].get("name", ""), in_pod=True)
        if len(out) == found:
            RIGHT.add(digest)
    if spec.get("serviceAccountName"):
        return
    for position, volume in enumerate(spec.get("volumes") or ()):
        for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if source.get("serviceAccountToken") is not None:
                path = f"spec.volumes[{position}].projected.sources[{index}].serviceAccountToken"
                why = "must not be specified when serviceAccountName is not set"
                out.append(fields.forbidden(path, why))


def _check_mirror(new: Mapping[str, str], old: Mapping[str, str], out: list[Cause]) -> None:
    if new.get(MIRROR) != old.get(MIRROR):
        verb = "remove or update" if MIRROR in old else "add"
        path = f"metadata.annotations[{MIRROR}]"
        out.append(fields.forbidden(path, f"may not {verb} mirror pod annotation"))


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is not None:
        check_status(obj, old, out)
    return out


def validate_ephemeral(obj: Object, old: Object | None) -> list[Cause]:
    """A write to /ephemeralcontainers."""
    before = old or {}
    if MIRROR in ((before.get("metadata") or {}).get("annotations") or ()):
        return [fields.forbidden("", "static pods do not support ephemeral containers")]
    out: list[Cause] = []
    _check_whole(obj, out)
    check_ephemeral_update(obj["spec"], before.get("spec") or {}, out)
    return out


def validate_resize(obj: Object, old: Object | None) -> list[Cause]:
    """A write to /resize."""
    before = old or {}
    if MIRROR in ((before.get("metadata") or {}).get("annotations") or ()):
        return [fields.forbidden("", "static pods cannot be resized")]
    if (obj["spec"].get("os") or {}).get("name") == "windows":
        return [fields.forbidden("", "windows pods cannot be resized")]
    out: list[Cause] = []
    _check_whole(obj, out)
    check_resize(obj, before, out)
    return out


def selectable(obj: Object) -> Mapping[str, str]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    addresses = status.get("podIPs")
    return {
        "spec.nodeName": spec.get("nodeName") or "",
        "spec.restartPolicy": spec.get("restartPolicy") or "",
        "spec.schedulerName": spec.get("schedulerName") or "",
        "spec.serviceAccountName": spec.get("serviceAccountName") or "",
        "spec.hostNetwork": "true" if spec.get("hostNetwork") else "false",
        "status.phase": status.get("phase") or "",
        "status.podIP": (addresses[0].get("ip") if addresses else status.get("podIP")) or "",
        "status.nominatedNodeName": status.get("nominatedNodeName") or "",
    }


KIND = Kind(
    group="",
    version="v1",
    kind="Pod",
    short_names=("po",),
    categories=("all",),
    storage="pods",
    default=default,
    prepare=prepare,
    validate=validate,
    warnings=warn_pod,
    validate_status=validate_status,
    prepare_parts={"resize": keep_unresized, "status": keep_observed},
    validate_parts={"ephemeralcontainers": validate_ephemeral, "resize": validate_resize},
    fields=selectable,
    columns=COLUMNS,
    cells=pod_cells,
    extra_subresources=SUBRESOURCES,
    status_keeps=("ownerReferences",),
)
