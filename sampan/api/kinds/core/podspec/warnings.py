"""Warnings about pods and pod templates, in upstream's words (pkg/api/pod/warnings.go)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ....errors import Object
from ....fields import quote
from ....names import label_problems
from ...doubts import (
    NODE_LABELS,
    doubt_bytes,
    doubt_claim_spec,
    doubt_ip,
    doubt_pod_name,
    doubt_term,
)
from .proven import Proven, digest_of

ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod":
        'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls":
        'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls":
        'non-functional in v1.11+; use the "sysctls" field instead',
}  # fmt: skip
VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
SHOWN = {"storageos": "storageOS"}
"""Volumes that upstream's warnings call by another name than the API does."""
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
USE_SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
USE_APPARMOR = 'deprecated since v1.30; use the "appArmorProfile" field instead'
NO_SELECTOR = "a null labelSelector results in matching no pod"
REQUIRED, PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


HARMLESS = Proven()
"""Specs without a warning, of pods without annotations."""


def warn_pod(obj: Object, old: Object | None) -> list[str]:
    """Warnings about a new pod. Updates have none: they are mostly programs', and many."""
    out: list[str] = []
    if old is not None:
        return out
    problems = label_problems(obj["metadata"].get("name") or "")
    if problems:
        out.append(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising "
            f"behavior; a DNS label is recommended: [{' '.join(problems)}]"
        )
    if obj["metadata"].get("annotations"):
        return out + _warnings(obj, "")
    digest = digest_of(obj.get("spec") or {})
    if digest not in HARMLESS:
        found = _warnings(obj, "")
        if found:
            return out + found
        HARMLESS.add(digest)
    return out


def warn_workload(obj: Object, old: Object | None) -> list[str]:
    """Warnings about a workload with spec.template. An update that leaves the spec as it was has
    none, and its name is past changing."""
    if old is None:
        return doubt_pod_name(obj) + warn_template(obj["spec"])
    return [] if obj["spec"] == old.get("spec") else warn_template(obj["spec"])


def warn_template(owner: Object, path: str = "spec.template") -> list[str]:
    """Warnings about `owner["template"]`, which stands at `path`."""
    template = owner.get("template")
    return _warnings(template, f"{path}.") if template else []


def _warnings(obj: Object, path: str) -> list[str]:
    spec = obj.get("spec") or {}
    containers = list(_containers(spec, f"{path}spec"))
    out: list[str] = []
    if spec.get("nodeSelector") or spec.get("affinity") or spec.get("topologySpreadConstraints"):
        out += _places(spec, f"{path}spec")
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if annotations:
        out += _old_annotations(spec, annotations, path, containers)
    if spec.get("volumes"):
        out += _volumes(spec["volumes"], f"{path}spec.volumes")
    out += _lists(spec, f"{path}spec")
    for container, where in containers:
        out += _amounts(container.get("resources") or {}, f"{where}.resources")
        out += _hidden_variables(container.get("env") or (), f"{where}.env")
    out += _ports(containers)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        why = "must be >= 0; negative values are invalid and will be treated as 1"
        out.append(f"{path}spec.terminationGracePeriodSeconds: {why}")
    return out


def _containers(spec: Object, path: str) -> Iterator[tuple[Object, str]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for position, container in enumerate(spec.get(kind) or ()):
            yield container, f"{path}.{kind}[{position}]"


def _places(spec: Object, path: str) -> list[str]:
    """Where the pod may go: labels of nodes, and selectors of pods that are missing."""
    out = [
        f"{path}.nodeSelector[{key}]: {NODE_LABELS[key]}"
        for key in spec.get("nodeSelector") or ()
        if key in NODE_LABELS
    ]
    affinity = spec.get("affinity") or {}
    nodes, where = affinity.get("nodeAffinity") or {}, f"{path}.affinity.nodeAffinity"
    for position, term in enumerate((nodes.get(REQUIRED) or {}).get("nodeSelectorTerms") or ()):
        place = f"{where}.{REQUIRED}.nodeSelectorTerms[{position}]"
        out += doubt_term(term, place, values=False)
    for position, item in enumerate(nodes.get(PREFERRED) or ()):
        place = f"{where}.{PREFERRED}[{position}].preference"
        out += doubt_term(item.get("preference") or {}, place, values=True)
    for position, item in enumerate(spec.get("topologySpreadConstraints") or ()):
        where, key = f"{path}.topologySpreadConstraints[{position}]", item.get("topologyKey")
        if key in NODE_LABELS:
            out.append(f"{where}.topologyKey: {key} is {NODE_LABELS[key]}")
        if item.get("labelSelector") is None:
            out.append(f"{where}.labelSelector: {NO_SELECTOR}")
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        for position, term in enumerate(terms.get(REQUIRED) or ()):
            if term.get("labelSelector") is None:
                where = f"{path}.affinity.{kind}.{REQUIRED}[{position}]"
                out.append(f"{where}.labelSelector: {NO_SELECTOR}")
        for position, item in enumerate(terms.get(PREFERRED) or ()):
            if (item.get("podAffinityTerm") or {}).get("labelSelector") is None:
                where = f"{path}.affinity.{kind}.{PREFERRED}[{position}].podAffinityTerm"
                out.append(f"{where}.labelSelector: {NO_SELECTOR}")
    return out


def _old_annotations(
    spec: Object, annotations: Object, path: str, containers: list[tuple[Object, str]]
) -> list[str]:
    where = f"{path}metadata.annotations"
    out = [f"{where}[{key}]: {why}" for key, why in ANNOTATIONS.items() if key in annotations]
    own = spec.get("securityContext") or {}
    if SECCOMP_POD in annotations and own.get("seccompProfile") is None:
        out.append(f"{where}[{SECCOMP_POD}]: {USE_SECCOMP}")
    for container, _ in containers:
        security = container.get("securityContext") or {}
        key = f"{SECCOMP_CONTAINER}{container.get('name')}"
        if key in annotations and security.get("seccompProfile") is None:
            out.append(f"{where}[{key}]: {USE_SECCOMP}")
        key = f"{APPARMOR}{container.get('name')}"
        given = own.get("appArmorProfile") or security.get("appArmorProfile")
        if path and key in annotations and not given:
            out.append(f"{where}[{key}]: {USE_APPARMOR}")
    return out


def _volumes(volumes: Iterable[Object], path: str) -> list[str]:
    out: list[str] = []
    tokens: set[str] = set()
    for position, volume in enumerate(volumes):
        where = f"{path}[{position}]"
        for kind in volume.keys() & VOLUMES.keys():
            if volume[kind] is not None:
                out.append(f"{where}.{SHOWN.get(kind, kind)}: {VOLUMES[kind]}")
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template:
            place = f"{where}.ephemeral.volumeClaimTemplate.spec"
            out += doubt_claim_spec(template.get("spec") or {}, place)
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("serviceAccountToken"):
                tokens.add(source["serviceAccountToken"].get("path") or "")
    if tokens:
        for position, volume in enumerate(volumes):
            for source in (volume.get("projected") or {}).get("sources") or ():
                where = f"{path}[{position}].projected.sources"
                out += _beside_tokens(source, tokens, where)
    return out


def _beside_tokens(source: Object, tokens: set[str], path: str) -> list[str]:
    """Projected files that have the path of a token."""
    found = [
        (f"{path}.{shown}[{position}]", item.get("path"))
        for kind, shown in (
            ("configMap", "configMap"), ("secret", "secrets"), ("downwardAPI", "downwardAPI"),
        )
        for position, item in enumerate((source.get(kind) or {}).get("items") or ())
    ]  # fmt: skip
    if source.get("clusterTrustBundle"):
        found.append((f"{path}.ClusterTrustBundle", source["clusterTrustBundle"].get("path")))
    why = "has duplicated path with ServiceAccountToken"
    return [f"{where}: {why} {quote(text)}" for where, text in found if text in tokens]


def _lists(spec: Object, path: str) -> list[str]:
    out: list[str] = []
    addresses: set[str] = set()
    for position, item in enumerate(spec.get("hostAliases") or ()):
        address, where = item.get("ip") or "", f"{path}.hostAliases[{position}].ip"
        if address in addresses:
            out.append(f"{where}: duplicate ip {quote(address)}")
        addresses.add(address)
        out += doubt_ip(address, where)
    names: set[str] = set()
    for position, item in enumerate(spec.get("imagePullSecrets") or ()):
        name, where = item.get("name") or "", f"{path}.imagePullSecrets[{position}].name"
        if name in names:
            out.append(f"{where}: duplicate name {quote(name)}")
        names.add(name)
        if not name:
            out.append(f'{where}: invalid empty name ""')
    servers = (spec.get("dnsConfig") or {}).get("nameservers") or ()
    for position, address in enumerate(servers):
        out += doubt_ip(address, f"{path}.dnsConfig.nameservers[{position}]")
    overhead = spec.get("overhead") or {}
    for name in ("memory", "ephemeral-storage"):
        out += doubt_bytes(overhead.get(name), f"{path}.overhead[{name}]")
    return out


def _amounts(resources: Object, path: str) -> list[str]:
    return [
        text
        for name in ("memory", "ephemeral-storage")
        for kind in ("limits", "requests")
        for text in doubt_bytes((resources.get(kind) or {}).get(name), f"{path}.{kind}[{name}]")
    ]


def _hidden_variables(variables: Iterable[Object], path: str) -> list[str]:
    """Variables that are given twice, unless the later one builds upon the earlier."""
    out: list[str] = []
    seen: set[str] = set()
    for position, item in enumerate(variables):
        name, value = item.get("name") or "", item.get("value") or ""
        reference = f"$({name})"
        builds = item.get("valueFrom") is None and reference in value and value != reference
        if name in seen and not builds:
            why = f"hides previous definition of {quote(name)}, which may be dropped when using"
            out.append(f"{path}[{position}]: {why} apply")
        seen.add(name)
    return out


def _ports(containers: list[tuple[Object, str]]) -> list[str]:
    out: list[str] = []
    numbers: dict[tuple[Any, Any], list[tuple[str, Object]]] = {}
    names: dict[str, str] = {}
    for container, path in containers:
        for position, port in enumerate(container.get("ports") or ()):
            where = f"{path}.ports[{position}]"
            if port.get("hostIP") and not port.get("hostPort"):
                out.append(f"{where}: hostIP set without hostPort: {_shown(port)}")
            others = numbers.setdefault((port.get("containerPort"), port.get("protocol")), [])
            out += [text for place, other in others for text in _clash(port, other, where, place)]
            others.append((where, port))
    for container, path in containers:
        if ".initContainers[" in path and container.get("restartPolicy") != "Always":
            continue
        for position, port in enumerate(container.get("ports") or ()):
            name, where = port.get("name"), f"{path}.ports[{position}]"
            if name and name in names:
                first = names[name]
                out.append(
                    f"{where}: duplicate port name {quote(name)} with {first}, services and "
                    f"probes that select ports by name will use {first}"
                )
            elif name:
                names[name] = where
    return out


def _clash(port: Object, other: Object, where: str, place: str) -> list[str]:
    address, its_address = port.get("hostIP") or "", other.get("hostIP") or ""
    number, its_number = port.get("hostPort") or 0, other.get("hostPort") or 0
    if (address, number) == (its_address, its_number):
        return [f"{where}: duplicate port definition with {place}"]
    if not number or not its_number:
        return [f"{where}: overlapping port definition with {place}"]
    if number == its_number and bool(address) != bool(its_address):
        return [f"{where}: dangerously ambiguous port definition with {place}"]
    return []


def _shown(port: Object) -> str:
    """A port as Go prints the struct."""
    get = port.get
    return (
        f"{{Name:{get('name') or ''} HostPort:{get('hostPort') or 0} "
        f"ContainerPort:{get('containerPort') or 0} Protocol:{get('protocol') or ''} "
        f"HostIP:{get('hostIP') or ''}}}"
    )
