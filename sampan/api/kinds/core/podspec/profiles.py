"""Validation of the annotations that named seccomp and AppArmor profiles before there were fields,
and of how they agree with the fields (ValidatePodSpecificAnnotations)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .... import fields
from ....errors import Cause, Object
from ...formats import check_descending
from .security import check_apparmor
from .warnings import APPARMOR, SECCOMP_CONTAINER, SECCOMP_POD, USE_APPARMOR

SECCOMP_DEFAULTS = ("runtime/default", "docker/default")
LOCALHOST = "localhost/"
APPARMOR_DEFAULT, UNCONFINED = "runtime/default", "unconfined"
KINDS = (
    ("seccomp", "seccompProfile", SECCOMP_DEFAULTS),
    ("apparmor", "appArmorProfile", (APPARMOR_DEFAULT,)),
)


def check_profile_annotations(
    annotations: Mapping[str, str], spec: Object, path: str, out: list[Cause]
) -> None:
    names = {item.get("name") for item, _ in _containers(spec)}
    for key, value in annotations.items():
        if key == SECCOMP_POD or key.startswith(SECCOMP_CONTAINER):
            _check_seccomp(value, f"{path}.{key}", out)
        elif key.startswith(APPARMOR):
            name = key.removeprefix(APPARMOR)
            if name not in names:
                out.append(fields.invalid(f"{path}[{key}]", name, "container not found"))
            if value not in ("", APPARMOR_DEFAULT, UNCONFINED) and not value.startswith(LOCALHOST):
                why = f"invalid AppArmor profile name: {fields.quote(value)}"
                out.append(fields.invalid(f"{path}[{key}]", value, why))


def _check_seccomp(value: str, path: str, out: list[Cause]) -> None:
    if value in SECCOMP_DEFAULTS or value == UNCONFINED:
        return
    if value.startswith(LOCALHOST):
        check_descending(value.removeprefix(LOCALHOST), path, out)
    else:
        out.append(fields.invalid(path, value, "must be a valid seccomp profile"))


def check_profiles_agree(annotations: Mapping[str, str], spec: Object, out: list[Cause]) -> None:
    """On create, an annotation and a field that speak of the same must say the same."""
    own = spec.get("securityContext") or {}
    if SECCOMP_POD in annotations:
        where = "spec.securityContext.seccompProfile"
        _check_same(KINDS[0], own.get("seccompProfile"), annotations[SECCOMP_POD], where, out)
    windows = (spec.get("os") or {}).get("name") == "windows"
    for kind, prefix in zip(KINDS, (SECCOMP_CONTAINER, APPARMOR), strict=True):
        for container, path in _containers(spec):
            key = f"{prefix}{container.get('name') or ''}"
            if key not in annotations:
                continue
            field = kind[1]
            profile = (container.get("securityContext") or {}).get(field)
            if kind[0] == "apparmor":
                profile = None if windows else profile or own.get(field)
            where = f"{path}.securityContext.{field}"
            _check_same(kind, profile, annotations[key], where, out)


def take_apparmor(pod: Object) -> list[str]:
    """Give containers the profiles that annotations name, where no field does
    (applyAppArmorVersionSkew). Returns warnings of annotations that were needed or are no use."""
    spec, annotations = pod.get("spec") or {}, pod["metadata"].get("annotations") or {}
    if not any(key.startswith(APPARMOR) for key in annotations):
        return []
    if (spec.get("os") or {}).get("name") == "windows":
        return []
    out: list[str] = []
    common = (spec.get("securityContext") or {}).get("appArmorProfile")
    for container, _ in _containers(spec):
        key = f"{APPARMOR}{container.get('name') or ''}"
        own = (container.get("securityContext") or {}).get("appArmorProfile")
        if key not in annotations or own is not None:
            continue
        profile = _profile_of(annotations[key])
        if profile is not None and profile == common:
            continue
        if profile is not None:
            context = container.get("securityContext") or {}
            container["securityContext"] = {**context, "appArmorProfile": profile}
        out.append(f"metadata.annotations[{key}]: {USE_APPARMOR}")
    return out


def _profile_of(annotation: str) -> Object | None:
    if annotation == UNCONFINED:
        return {"type": "Unconfined"}
    if annotation == APPARMOR_DEFAULT:
        return {"type": "RuntimeDefault"}
    name = annotation.removeprefix(LOCALHOST)
    if name == annotation:
        return None
    profile = {"type": "Localhost", "localhostProfile": name}
    causes: list[Cause] = []
    check_apparmor(profile, "", causes)
    return None if causes else profile


def _check_same(
    kind: tuple[str, str, tuple[str, ...]],
    profile: Object | None,
    value: str,
    path: str,
    out: list[Cause],
) -> None:
    word, _, defaults = kind
    if profile is None:
        return
    known = {
        "Unconfined": value == UNCONFINED,
        "RuntimeDefault": value in defaults,
        "Localhost": value.startswith(LOCALHOST),
    }
    if not known.get(profile.get("type") or "", True):
        why = f"{word} type in annotation and field must match"
        out.append(fields.forbidden(f"{path}.type", why))
        return
    local = profile.get("localhostProfile")
    if profile.get("type") == "Localhost" and local != value.removeprefix(LOCALHOST):
        why = f"{word} profile in annotation and field must match"
        out.append(fields.forbidden(f"{path}.localhostProfile", why))


def _containers(spec: Object) -> Iterator[tuple[Object, str]]:
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for position, item in enumerate(spec.get(name) or ()):
            yield item, f"spec.{name}[{position}]"
