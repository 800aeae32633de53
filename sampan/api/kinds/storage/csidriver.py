"""CSIDriver (storage.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..formats import check_optional
from ..printing import AGE, NAME, NONE, UNSET, age, name

FLAGS = {
    "attachRequired": True, "podInfoOnMount": False, "storageCapacity": False,
    "requiresRepublish": False, "seLinuxMount": False,
}  # fmt: skip
SHOWN = {"attachRequired": "attachedRequired"}
"""Fields that upstream's errors call by another name."""
MIN_UPDATE_S = 10
MODES = ("Persistent", "Ephemeral")
MIN_TOKEN_S, MAX_TOKEN_S = 600, 1 << 32
GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    for field, value in FLAGS.items():
        if spec.get(field) is None:
            spec[field] = value
    if spec.get("fsGroupPolicy") is None:
        spec["fsGroupPolicy"] = "ReadWriteOnceWithFSType"
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    for field in ("attachRequired", "podInfoOnMount", "storageCapacity"):
        if spec.get(field) is None:
            out.append(fields.required(f"spec.{SHOWN.get(field, field)}"))
    check_optional(spec.get("fsGroupPolicy"), GROUP_POLICIES, "spec.fsGroupPolicy", out)
    _check_tokens(spec.get("tokenRequests") or (), "spec.tokenRequests", out)
    for mode in spec.get("volumeLifecycleModes") or ():
        if mode not in MODES:
            out.append(fields.not_supported("spec.volumeLifecycleModes", mode, MODES))
    if spec.get("seLinuxMount") is None:
        out.append(fields.required("spec.seLinuxMount"))
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < MIN_UPDATE_S:
        why = f"must be greater than or equal to {MIN_UPDATE_S} seconds"
        out.append(fields.invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, why))
    if old is not None:
        before = old.get("spec") or {}
        for field in ("attachRequired", "volumeLifecycleModes"):
            if spec.get(field) != before.get(field):
                path = f"spec.{SHOWN.get(field, field)}"
                out.append(fields.immutable(path, spec.get(field)))
    return out


def _check_tokens(requests: Sequence[Object], path: str, out: list[Cause]) -> None:
    seen: set[str] = set()
    for position, item in enumerate(requests):
        audience, seconds = item.get("audience") or "", item.get("expirationSeconds")
        if audience in seen:
            out.append(fields.duplicate(f"{path}[{position}].audience", audience))
            continue
        seen.add(audience)
        if seconds is not None and not MIN_TOKEN_S <= seconds <= MAX_TOKEN_S:
            limit = "less than 10 minutes" if seconds < MIN_TOKEN_S else "larger than 2^32 seconds"
            why = f"may not specify a duration {limit}"
            out.append(fields.invalid(f"{path}[{position}].expirationSeconds", seconds, why))


def cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    requests = spec.get("tokenRequests")
    audiences = UNSET
    if requests is not None:
        audiences = ",".join(item.get("audience", "") for item in requests)
    return [
        name(obj),
        spec.get("attachRequired") is not False,
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        audiences,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        age(obj, now_s),
    ]


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="CSIDriver",
    storage="csidrivers",
    generation=True,
    default=default,
    validate=validate,
    columns=(
        NAME,
        Column("AttachRequired", "boolean", "Must volumes be attached first?"),
        Column("PodInfoOnMount", "boolean", "Is the driver told about the pod?"),
        Column("StorageCapacity", "boolean", "Does the driver report capacity?"),
        Column("TokenRequests", "string", "Audiences of the tokens it gets."),
        Column("RequiresRepublish", "boolean", "Is publishing repeated?"),
        Column("Modes", "string", "Kinds of volumes it serves."),
        AGE,
    ),
    cells=cells,
)
