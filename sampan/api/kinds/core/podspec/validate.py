"""Validation of a whole pod spec and of pod templates (ValidatePodSpec)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .... import fields
from ....errors import Cause, Object
from ....names import label_key_problems
from ...formats import (
    MAX_INT32,
    check_annotations,
    check_label,
    check_labels,
    check_qualified,
    check_subdomain,
)
from .containers import (
    Surroundings,
    check_containers,
    check_ephemeral_containers,
    check_init_containers,
)
from .network import check_aliases, check_dns, check_host_ports, check_override
from .profiles import check_profile_annotations
from .resources import check_pod_resources, check_requirements
from .scheduling import check_affinity, check_gates, check_spreading, check_tolerations
from .security import check_pod_security
from .systems import check_system
from .volumes import check_volumes
from .windows import check_host_processes

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
PREEMPTION_POLICIES = ("PreemptLowerPriority", "Never")
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
MIRROR = "kubernetes.io/config.mirror"


def check_spec(
    spec: Object, path: str, out: list[Cause], *, pod_name: str = "", in_pod: bool = False
) -> None:
    """A pod spec, of a Pod (`in_pod`, with its name) or of a template."""
    get = spec.get
    grace = get("terminationGracePeriodSeconds")
    if grace is None:
        out.append(fields.required(f"{path}.terminationGracePeriodSeconds"))
    volumes = check_volumes(get("volumes"), f"{path}.volumes", pod_name, out)
    claims = frozenset(item["name"] for item in get("resourceClaims") or () if item.get("name"))
    if get("resourceClaims"):
        _check_claims(spec["resourceClaims"], f"{path}.resourceClaims", out)
    pod = Surroundings(
        volumes, get("restartPolicy") or "", grace, claims, get("hostUsers") is not False, in_pod
    )
    regular, init = get("containers") or (), get("initContainers") or ()
    check_containers(regular, f"{path}.containers", pod, out)
    if init:
        check_init_containers(init, f"{path}.initContainers", regular, pod, out)
    if get("ephemeralContainers"):
        where = f"{path}.ephemeralContainers"
        others = [*regular, *init]
        check_ephemeral_containers(spec["ephemeralContainers"], where, others, pod, out)
    if get("resources"):
        check_pod_resources(spec, f"{path}.resources", out, claims)
    if get("hostNetwork"):
        check_host_ports(spec, path, in_pod, out)
    _check_word(spec, "restartPolicy", RESTART_POLICIES, path, out)
    _check_word(spec, "dnsPolicy", DNS_POLICIES, path, out)
    if get("nodeSelector"):
        check_labels(spec["nodeSelector"], f"{path}.nodeSelector", out)
    check_pod_security(spec, path, out)
    _check_placement(spec, path, in_pod, out)
    _check_names(spec, path, out)
    _check_rest(spec, path, out)


def _check_word(
    spec: Object, name: str, allowed: tuple[str, ...], path: str, out: list[Cause]
) -> None:
    value = spec.get(name)
    if not value:
        out.append(fields.required(f"{path}.{name}"))
    elif value not in allowed:
        out.append(fields.not_supported(f"{path}.{name}", value, allowed))


def _check_placement(spec: Object, path: str, in_pod: bool, out: list[Cause]) -> None:
    get = spec.get
    if get("affinity"):
        check_affinity(spec["affinity"], f"{path}.affinity", out)
    if get("dnsConfig") is not None or get("dnsPolicy") == "None":
        check_dns(spec, f"{path}.dnsConfig", out)
    for position, gate in enumerate(get("readinessGates") or ()):
        where = f"{path}.readinessGates[{position}].conditionType"
        check_qualified(gate.get("conditionType") or "", where, out)
    if get("schedulingGates"):
        check_gates(spec["schedulingGates"], f"{path}.schedulingGates", out)
    if get("topologySpreadConstraints"):
        where = f"{path}.topologySpreadConstraints"
        check_spreading(spec["topologySpreadConstraints"], where, in_pod, out)
    check_host_processes(spec, path, out)
    if get("tolerations"):
        check_tolerations(spec["tolerations"], f"{path}.tolerations", out)


def _check_names(spec: Object, path: str, out: list[Cause]) -> None:
    for name in ("serviceAccountName", "nodeName", "priorityClassName"):
        value = spec.get(name)
        if value:
            check_subdomain(value, f"{path}.{name}", out)
    if spec.get("runtimeClassName") is not None:
        check_subdomain(spec["runtimeClassName"], f"{path}.runtimeClassName", out)
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            check_label(spec[name], f"{path}.{name}", out)
    if spec.get("hostnameOverride") is not None:
        check_override(spec, f"{path}.hostnameOverride", out)


def _check_rest(spec: Object, path: str, out: list[Cause]) -> None:
    get = spec.get
    deadline = get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= MAX_INT32:
        why = f"must be between 1 and {MAX_INT32}, inclusive"
        out.append(fields.invalid(f"{path}.activeDeadlineSeconds", deadline, why))
    if get("hostAliases"):
        check_aliases(spec["hostAliases"], f"{path}.hostAliases", out)
    policy = get("preemptionPolicy")
    if policy is not None and policy not in PREEMPTION_POLICIES:
        where = f"{path}.preemptionPolicy"
        out.append(
            fields.not_supported(where, policy, PREEMPTION_POLICIES)
            if policy
            else fields.required(where)
        )
    if get("overhead"):
        check_requirements({"limits": spec["overhead"]}, f"{path}.overhead", out)
    if get("os") is not None:
        check_system(spec, path, out)


def _check_claims(claims: list[Object], path: str, out: list[Cause]) -> None:
    seen: set[str] = set()
    for position, claim in enumerate(claims):
        where = f"{path}[{position}]"
        name = claim.get("name")
        if not name:
            out.append(fields.required(f"{where}.name"))
        elif name in seen:
            out.append(fields.duplicate(f"{where}.name", name))
        else:
            check_label(name, f"{where}.name", out)
            seen.add(name)
        names = ("resourceClaimName", "resourceClaimTemplateName")
        given = [item for item in names if claim.get(item) is not None]
        if len(given) == 2:
            why = (
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            )
            out.append(fields.invalid(where, claim, why))
        elif not given:
            why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            out.append(fields.invalid(where, claim, why))
        for item in given:
            check_subdomain(claim[item], f"{where}.{item}", out)


def check_pod_annotations(
    annotations: dict[str, str] | None, spec: Object, path: str, out: list[Cause]
) -> None:
    """Annotations that mean something to a pod."""
    if not annotations:
        return
    if MIRROR in annotations and not spec.get("nodeName"):
        why = "must set spec.nodeName if mirror pod annotation is set"
        out.append(fields.invalid(f"{path}[{MIRROR}]", annotations[MIRROR], why))
    check_profile_annotations(annotations, spec, path, out)
    cost = annotations.get(DELETION_COST)
    if cost is not None and not _is_int32(cost):
        out.append(fields.invalid(f"{path}[{DELETION_COST}]", cost, "must be a 32bit integer"))


def _is_int32(text: str) -> bool:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 10:
        return False
    if len(digits) > 1 and digits[0] == "0":
        return False
    return -(2**31) <= int(text) <= MAX_INT32 and text != "-0"


def check_template(template: Any, path: str, out: list[Cause]) -> None:
    """A PodTemplateSpec."""
    metadata = (template or {}).get("metadata") or {}
    spec = (template or {}).get("spec") or {}
    for key, value in (metadata.get("labels") or {}).items():
        check_labels({key: value}, f"{path}.labels", out)
    annotations = metadata.get("annotations")
    if annotations:
        check_annotations(annotations, f"{path}.annotations", out)
        check_pod_annotations(annotations, spec, f"{path}.annotations", out)
    check_spec(spec, f"{path}.spec", out)
    if spec.get("ephemeralContainers"):
        why = "ephemeral containers not allowed in pod template"
        out.append(fields.forbidden(f"{path}.spec.ephemeralContainers", why))


def check_conditions(conditions: Sequence[Object], path: str, out: list[Cause]) -> None:
    """Types of a pod's conditions."""
    for position, item in enumerate(conditions):
        kind = item.get("type") or ""
        for why in label_key_problems(kind):
            out.append(fields.invalid(f"{path}[{position}].Type", kind, why))
