"""PodSecurity: namespaces choose by labels what their pods may do (KEP-2579).

Pods that violate what is enforced are refused; what is audited or warned about is noted. Templates
of workloads only warn. `pod-security.yaml` in the administrator's folder (a
PodSecurityConfiguration) has defaults and exemptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Cause, Object, aggregate, invalid
from sampan.api.resources import resource

from ...exchange import Write
from ..plugin import Plugin, refuse
from .checks import violations
from .configuration import Configuration, configuration_of
from .levels import LEVELS, PREFIX, PRIVILEGED, Choice, Standard, choice_of
from .metrics import count, count_error, count_exemption

if TYPE_CHECKING:
    from ...app import Server

__all__ = ["PLUGIN", "Configuration", "configuration_of"]

WORKLOADS = {
    "": ("replicationcontrollers", "podtemplates"),
    "apps": ("replicasets", "deployments", "statefulsets", "daemonsets"),
    "batch": ("jobs", "cronjobs"),
}
TEMPLATES = {"podtemplates": ("template",), "cronjobs": ("spec", "jobTemplate", "spec", "template")}
MAX_PODS = 3000
"""Pods looked at when a namespace is made stricter; upstream's number, and bounded likewise."""


def _validate(server: Server, write: Write) -> None:
    target = write.attributes.resource
    assert target is not None
    if target.plural == "namespaces":
        _check_namespace(server, write)
        return
    attributes, configuration = write.attributes, server.admission.pod_security
    namespace = server.find_object(resource("namespaces"), "", attributes.namespace)
    labels = namespace["metadata"].get("labels") if namespace else None
    choice, causes = choice_of(labels, configuration.default)
    exempt = configuration.exemption(attributes.namespace, attributes.user.name)
    if exempt:
        _exempt(server, write, exempt)
        return
    pods = target.plural == "pods"
    if choice.free and not causes:
        if pods:
            write.annotate(f"{PREFIX}enforce-policy", "privileged:latest")
            series = server.admission.metrics.series
            count(series, write, choice.enforce, "enforce", allowed=True)
        return
    if pods:
        if write.operation == "UPDATE" and not _is_significant(write.obj, write.old or {}):
            return
        _check(server, write, (choice, causes), write.obj, enforce=True)
    else:
        template = _template(target.plural, write.obj)
        if template:
            _check(server, write, (choice, causes), template, enforce=False)


def _exempt(server: Server, write: Write, why: str) -> None:
    count_exemption(server.admission.metrics.series, write)
    write.annotate(f"{PREFIX}exempt", why)


def _template(plural: str, obj: Object) -> Object:
    found: Any = obj
    for field in TEMPLATES.get(plural, ("spec", "template")):
        found = (found or {}).get(field)
    return found or {}


def _check(
    server: Server, write: Write, policy: tuple[Choice, list[Cause]], pod: Object, *, enforce: bool
) -> None:
    choice, causes = policy
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    series = server.admission.metrics.series
    if server.admission.pod_security.exempts_class(spec.get("runtimeClassName") or ""):
        _exempt(server, write, "runtimeClass")
        return
    if causes:
        count_error(series, write)
        write.annotate(f"{PREFIX}error", f"Failed to parse policy: {aggregate(causes)}")
    known: dict[Standard, str] = {}

    def text(standard: Standard) -> str:
        if standard not in known:
            known[standard] = ", ".join(map(str, violations(standard, meta, spec)))
        return known[standard]

    if enforce:
        write.annotate(f"{PREFIX}enforce-policy", str(choice.enforce))
        count(series, write, choice.enforce, "enforce", allowed=not text(choice.enforce))
    if text(choice.audit):
        count(series, write, choice.audit, "audit", allowed=False)
        why = f'would violate PodSecurity "{choice.audit}": {text(choice.audit)}'
        write.annotate(f"{PREFIX}audit-violations", why)
    if enforce and text(choice.enforce):
        raise refuse(write, f'violates PodSecurity "{choice.enforce}": {text(choice.enforce)}')
    if text(choice.warn):
        count(series, write, choice.warn, "warn", allowed=False)
        write.warnings.append(f'would violate PodSecurity "{choice.warn}": {text(choice.warn)}')


def _is_significant(new: Object, old: Object) -> bool:
    """May the update change the verdict? Images, containers and seccomp annotations may."""
    return _marks(new) != _marks(old)


def _marks(pod: Object) -> Sequence[Any]:
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    annotations = meta.get("annotations") or {}
    seccomp = {key: value for key, value in annotations.items() if "seccomp.security.alpha" in key}
    containers = [
        (field, item.get("name"), item.get("image"))
        for field in ("containers", "initContainers", "ephemeralContainers")
        for item in spec.get(field) or ()
    ]
    return seccomp, containers


def _check_namespace(server: Server, write: Write) -> None:
    configuration = server.admission.pod_security
    meta = write.obj["metadata"]
    choice, causes = choice_of(meta.get("labels"), configuration.default)
    before: Choice | None = None
    if write.operation == "UPDATE":
        known = (write.old or {}).get("metadata") or {}
        before, old_causes = choice_of(known.get("labels"), configuration.default)
        if causes == old_causes:
            causes = []
    if causes:
        raise invalid("", "Namespace", meta.get("name") or "", causes)
    if before is not None and not _is_stricter(choice.enforce, before.enforce):
        return
    name = meta["name"]
    if name in configuration.namespaces:
        if not choice.free and choice != configuration.default:
            write.warnings.append(
                f'namespace "{name}" is exempt from Pod Security, and the policy '
                f"({choice.compact()}) will be ignored"
            )
    elif before is not None:
        write.warnings += _existing(server, name, choice.enforce, configuration)


def _is_stricter(new: Standard, old: Standard) -> bool:
    if new == old or new.level == PRIVILEGED:
        return False
    return new.version != old.version or LEVELS.index(new.level) > LEVELS.index(old.level)


def _existing(
    server: Server, namespace: str, enforce: Standard, configuration: Configuration
) -> list[str]:
    """Warnings about the pods there are, grouped by what they do."""
    pods = server.list_objects(resource("pods"), namespace)
    found: dict[str, list[str]] = {}
    for pod in pods[:MAX_PODS]:
        spec = pod.get("spec") or {}
        if configuration.exempts_class(spec.get("runtimeClassName") or ""):
            continue
        reasons = ", ".join(item.reason for item in violations(enforce, pod["metadata"], spec))
        if reasons:
            found.setdefault(reasons, []).append(pod["metadata"]["name"])
    out = []
    if len(pods) > MAX_PODS:
        out.append(
            "new PodSecurity enforce level only checked against the first"
            f" {MAX_PODS} of {len(pods)} existing pods"
        )
    if found:
        out.append(
            f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level'
            f' "{enforce}"'
        )
    return out + sorted(f"{_pods(names)}: {reasons}" for reasons, names in found.items())


def _pods(names: list[str]) -> str:
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{min(names)} (and {others} other {'pod' if others == 1 else 'pods'})"


PLUGIN = Plugin(
    "PodSecurity",
    {
        ("", "namespaces"): ("CREATE", "UPDATE"),
        ("", "pods"): ("CREATE", "UPDATE"),
        ("", "pods/ephemeralcontainers"): ("UPDATE",),
        ("", "pods/resize"): ("UPDATE",),
        **{
            (group, plural): ("CREATE", "UPDATE")
            for group, plurals in WORKLOADS.items()
            for plural in plurals
        },
    },
    validate=_validate,
)
