"""Checks of the restricted level, beyond baseline."""

from __future__ import annotations

from sampan.api.errors import Object

from .baseline import SECCOMP, seccomp
from .pods import (
    Violation,
    containers_of,
    context_of,
    is_windows,
    listed,
    names,
    quoted,
    setters,
    several,
    uses_user_namespace,
)

VOLUMES = frozenset({
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret", "image",
})  # fmt: skip


def escalation(meta: Object, spec: Object) -> Violation | None:
    found = names(spec, lambda item: context_of(item).get("allowPrivilegeEscalation") is not False)
    detail = f"{listed(found)} must set securityContext.allowPrivilegeEscalation=false"
    return Violation("allowPrivilegeEscalation != false", detail) if found else None


def escalation_1_25(meta: Object, spec: Object) -> Violation | None:
    return None if is_windows(spec) else escalation(meta, spec)


def capabilities(meta: Object, spec: Object) -> Violation | None:
    def own(item: Object, field: str) -> list[str]:
        return (context_of(item).get("capabilities") or {}).get(field) or []

    def added(item: Object) -> set[str]:
        return set(own(item, "add")) - {"NET_BIND_SERVICE"}

    details = []
    missing = names(spec, lambda item: "ALL" not in own(item, "drop"))
    if missing:
        details.append(f'{listed(missing)} must set securityContext.capabilities.drop=["ALL"]')
    adding = names(spec, added)
    if adding:
        bad = quoted(sorted(set().union(*map(added, containers_of(spec)))))
        details.append(
            f"{listed(adding)} must not include {bad} in securityContext.capabilities.add"
        )
    return Violation("unrestricted capabilities", "; ".join(details)) if details else None


def capabilities_1_25(meta: Object, spec: Object) -> Violation | None:
    return None if is_windows(spec) else capabilities(meta, spec)


def volumes(meta: Object, spec: Object) -> Violation | None:
    found, kinds = [], set()
    for item in spec.get("volumes") or ():
        kind = next((name for name in item if name != "name" and item[name] is not None), "unknown")
        if kind not in VOLUMES:
            found.append(item["name"])
            kinds.add(kind)
    if not found:
        return None
    verb, shown = "uses" if len(found) == 1 else "use", sorted(kinds)
    return Violation(
        "restricted volume types",
        f"{several('volume', found)} {quoted(found)} {verb} restricted volume"
        f" {several('type', shown)} {quoted(shown)}",
    )


def non_root(meta: Object, spec: Object) -> Violation | None:
    pod = context_of(spec).get("runAsNonRoot")
    who = setters(
        pod is False, names(spec, lambda item: context_of(item).get("runAsNonRoot") is False)
    )
    if who:
        detail = f"{who} must not set securityContext.runAsNonRoot=false"
        return Violation("runAsNonRoot != true", detail)
    unset = names(spec, lambda item: context_of(item).get("runAsNonRoot") is None)
    if pod or not unset:
        return None
    detail = f"pod or {listed(unset)} must set securityContext.runAsNonRoot=true"
    return Violation("runAsNonRoot != true", detail)


def non_root_1_35(meta: Object, spec: Object) -> Violation | None:
    return None if uses_user_namespace(spec) else non_root(meta, spec)


def root_user(meta: Object, spec: Object) -> Violation | None:
    who = setters(
        context_of(spec).get("runAsUser") == 0,
        names(spec, lambda item: context_of(item).get("runAsUser") == 0),
    )
    return Violation("runAsUser=0", f"{who} must not set runAsUser=0") if who else None


def root_user_1_35(meta: Object, spec: Object) -> Violation | None:
    return None if uses_user_namespace(spec) else root_user(meta, spec)


def profile(meta: Object, spec: Object) -> Violation | None:
    """A seccomp profile must be set, for the pod or each container."""
    bad = seccomp(meta, spec)
    if bad is not None:
        return bad
    if (context_of(spec).get("seccompProfile") or {}).get("type") in SECCOMP:
        return None
    unset = names(spec, lambda item: context_of(item).get("seccompProfile") is None)
    detail = (
        f"pod or {listed(unset)} must set securityContext.seccompProfile.type to"
        ' "RuntimeDefault" or "Localhost"'
    )
    return Violation("seccompProfile", detail) if unset else None


def profile_1_25(meta: Object, spec: Object) -> Violation | None:
    return None if is_windows(spec) else profile(meta, spec)
