"""StatefulSet (apps/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..core.podspec.equality import same
from ..core.podspec.template import check_selected_template, default_template
from ..core.podspec.warnings import warn_template
from ..doubts import doubt_claim_spec
from ..formats import check_count_or_percent, check_nonnegative, check_not_over_100
from ..printing import AGE, CONTAINERS, IMAGES, NAME, age, container_cells, name

POLICIES = ("OrderedReady", "Parallel")
RETENTION = ("Delete", "Retain")
MUTABLE = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip
IMMUTABLE = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
    "'minReadySeconds' are forbidden"
)


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        if rolling is None:
            rolling = strategy["rollingUpdate"] = {}
        rolling.setdefault("partition", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for field in ("whenDeleted", "whenScaled"):
        if not retention.get(field):
            retention[field] = "Retain"
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    default_template(spec)
    for claim in spec.get("volumeClaimTemplates") or ():
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
        claim.setdefault("status", {}).setdefault("phase", "Pending")
    status = obj.setdefault("status", {})
    status.setdefault("replicas", 0)
    status.setdefault("availableReplicas", 0)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    policy = spec.get("podManagementPolicy")
    if policy not in POLICIES:
        out.append(fields.invalid("spec.podManagementPolicy", policy, _one_of(POLICIES)))
    _check_strategy(spec["updateStrategy"], "spec.updateStrategy", out)
    retention = spec["persistentVolumeClaimRetentionPolicy"]
    for field in ("whenDeleted", "whenScaled"):
        if retention.get(field) not in RETENTION:
            where = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
            out.append(fields.not_supported(where, retention.get(field), RETENTION))
    for field in ("replicas", "minReadySeconds"):
        check_nonnegative(spec.get(field), f"spec.{field}", out)
    if spec.get("ordinals"):
        check_nonnegative(spec["ordinals"].get("start"), "spec.ordinals.start", out)
    whole = {**spec, "template": with_claim_volumes(spec)}
    check_selected_template(whole, "spec", "StatefulSet", out, empty="statefulset")
    if old is not None:
        kept = {key: value for key, value in spec.items() if key not in MUTABLE}
        before = {key: value for key, value in old["spec"].items() if key not in MUTABLE}
        if not same(kept, before):
            out.append(fields.forbidden("spec", IMMUTABLE))
    return out


def with_claim_volumes(spec: Object) -> Object:
    """The template with the volumes its pods will have from the claim templates, behind its own.

    Upstream does not check the pod's spec of a StatefulSet at all, for want of these; a pod that
    can never be made is better refused here.
    """
    template, claims = spec.get("template"), spec.get("volumeClaimTemplates")
    if not template or not template.get("spec") or not claims:
        return template or {}
    volumes = [*(template["spec"].get("volumes") or ())]
    taken = {item.get("name") for item in volumes}
    for claim in claims:
        name = (claim.get("metadata") or {}).get("name")
        if name and name not in taken:
            volumes.append({"name": name, "persistentVolumeClaim": {"claimName": name}})
    return {**template, "spec": {**template["spec"], "volumes": volumes}}


def _one_of(words: tuple[str, ...]) -> str:
    return "must be " + " or ".join(f"'{word}'" for word in words)


def _check_strategy(strategy: Object, path: str, out: list[Cause]) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        if rolling is not None:
            why = "only allowed for updateStrategy 'RollingUpdate'"
            out.append(fields.invalid(f"{path}.rollingUpdate", rolling, why))
        return
    if kind != "RollingUpdate":
        out.append(fields.invalid(path, strategy, _one_of(("RollingUpdate", "OnDelete"))))
        return
    where = f"{path}.rollingUpdate"
    check_nonnegative((rolling or {}).get("partition"), f"{where}.partition", out)
    unavailable = (rolling or {}).get("maxUnavailable")
    if unavailable is not None:
        check_count_or_percent(unavailable, f"{where}.maxUnavailable", out)
        if unavailable in (0, "0%"):
            out.append(fields.invalid(f"{where}.maxUnavailable", unavailable, "cannot be 0"))
        check_not_over_100(unavailable, f"{where}.maxUnavailable", out)


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    get = status.get
    for field in (
        "replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas",
        "observedGeneration", "collisionCount",
    ):  # fmt: skip
        check_nonnegative(get(field), f"status.{field}", out)
    for field in ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"):
        if (get(field) or 0) > (get("replicas") or 0):
            why = "cannot be greater than status.replicas"
            out.append(fields.invalid(f"status.{field}", get(field), why))
    return out


def warnings(obj: Object, old: Object | None) -> list[str]:
    spec = obj["spec"]
    changed = old is None or spec != old.get("spec")
    out = warn_template(spec) if changed else []
    # On update upstream's path has a capital: clients may know the words.
    below = "" if old is None else ".Spec"
    for position, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        path = f"spec.volumeClaimTemplates[{position}]{below}"
        out += doubt_claim_spec(claim.get("spec") or {}, path)
    if (spec.get("revisionHistoryLimit") or 0) < 0:
        out.append(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; "
            "a value >= 0 is recommended"
        )
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name(obj),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        age(obj, now_s),
        *container_cells(spec.get("template")),
    ]


KIND = Kind(
    group="apps",
    version="v1",
    kind="StatefulSet",
    short_names=("sts",),
    categories=("all",),
    storage="statefulsets",
    name_rule="label",
    default=default,
    validate=validate,
    warnings=warnings,
    validate_status=validate_status,
    columns=(
        NAME,
        Column("Ready", "string", "Number of the pod with ready state"),
        AGE,
        CONTAINERS,
        IMAGES,
    ),
    cells=cells,
)
