"""Validation of containers: regular, init and ephemeral."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from .... import fields
from ....errors import Cause, Object
from ....names import LABEL, MAX_LABEL
from ...formats import check_label, check_port, check_protocol, port_name_problems
from .environment import check_env, check_env_from
from .mounts import Volumes, check_devices, check_mounts
from .probes import check_lifecycle, check_probes
from .resources import check_requirements
from .restarts import check_restarts
from .security import check_container_security

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
SIDECAR_ONLY = "may not be set for init containers without restartPolicy=Always"
RESTART = "RestartContainer"
NO_RESTART = "must not be set to 'RestartContainer' for non-sidecar initContainers"
NOT_EPHEMERAL = "cannot be set for an Ephemeral Container"
FORBIDDEN_EPHEMERAL = (
    "ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle",
    "resizePolicy", "restartPolicy", "restartPolicyRules",
)  # fmt: skip


class Surroundings(Struct):
    """What a container's validation must know of its pod."""

    volumes: Volumes
    restart_policy: str
    grace_period_s: int | None
    claims: frozenset[str] = frozenset()
    host_users: bool = True
    in_pod: bool = True
    """A Pod, not a template: images may not be padded with spaces."""
    host_ports: set[str] = field(default_factory=set)


def check_containers(
    containers: Sequence[Object] | None, path: str, pod: Surroundings, out: list[Cause]
) -> None:
    if not containers:
        out.append(fields.required(path))
        return
    seen: set[str] = set()
    for position, container in enumerate(containers):
        where = f"{path}[{position}]"
        _check_any(container, where, pod, out)
        name = container.get("name") or ""
        if name in seen:
            out.append(fields.duplicate(f"{where}.name", name))
        seen.add(name)
        _check_running(container, where, pod, out)
        if "restartPolicy" in container or "restartPolicyRules" in container:
            check_restarts(container, where, out)
    for position, container in enumerate(containers):
        if container.get("ports"):
            _check_host_ports(container, f"{path}[{position}].ports", pod.host_ports, out)


def check_init_containers(
    containers: Sequence[Object], path: str, regular: Sequence[Object], pod: Surroundings,
    out: list[Cause],
) -> None:  # fmt: skip
    seen = {item.get("name") for item in regular}
    for position, container in enumerate(containers):
        where = f"{path}[{position}]"
        _check_any(container, where, pod, out)
        check_restarts(container, where, out)
        name = container.get("name") or ""
        if name in seen:
            out.append(fields.duplicate(f"{where}.name", name))
        elif name:
            seen.add(name)
        if container.get("ports"):
            # Init containers run one by one and may use the same ports.
            _check_host_ports(container, f"{where}.ports", set(), out)
        if container.get("restartPolicy") == "Always":
            _check_running(container, where, pod, out)
            continue
        for index, item in enumerate(container.get("resizePolicy") or ()):
            if item.get("restartPolicy") == RESTART:
                place = f"{where}.resizePolicy[{index}].restartPolicy"
                out.append(fields.invalid(place, RESTART, NO_RESTART))
        for field_name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if container.get(field_name) is not None:
                out.append(fields.forbidden(f"{where}.{field_name}", SIDECAR_ONLY))


def check_ephemeral_containers(
    containers: Sequence[Object], path: str, others: Sequence[Object], pod: Surroundings,
    out: list[Cause],
) -> None:  # fmt: skip
    known = {item.get("name") for item in others}
    seen = set(known)
    for position, container in enumerate(containers):
        where = f"{path}[{position}]"
        _check_any(container, where, pod, out)
        name = container.get("name") or ""
        if name in seen:
            out.append(fields.duplicate(f"{where}.name", name))
        seen.add(name)
        target = container.get("targetContainerName")
        if target and target not in known:
            out.append(fields.not_found(f"{where}.targetContainerName", target))
        for name in FORBIDDEN_EPHEMERAL:
            if container.get(name):
                out.append(fields.forbidden(f"{where}.{name}", NOT_EPHEMERAL))
        for index, mount in enumerate(container.get("volumeMounts") or ()):
            for name in ("subPath", "subPathExpr"):
                if mount.get(name):
                    place = f"{where}.volumeMounts[{index}].{name}"
                    out.append(fields.forbidden(place, NOT_EPHEMERAL))


def _check_any(container: Object, path: str, pod: Surroundings, out: list[Cause]) -> None:
    """What holds for every container."""
    get = container.get
    name, image = get("name"), get("image")
    if not name:
        out.append(fields.required(f"{path}.name"))
    elif len(name) > MAX_LABEL or not LABEL.fullmatch(name):
        check_label(name, f"{path}.name", out)
    if not image:
        out.append(fields.required(f"{path}.image"))
    elif pod.in_pod and image != image.strip():
        why = "must not have leading or trailing whitespace"
        out.append(fields.invalid(f"{path}.image", image, why))
    policy = get("terminationMessagePolicy")
    if policy not in MESSAGE_POLICIES:
        out.append(_unsupported(policy, MESSAGE_POLICIES, f"{path}.terminationMessagePolicy"))
    if get("ports"):
        _check_ports(container["ports"], f"{path}.ports", out)
    if get("env"):
        check_env(container["env"], f"{path}.env", out, pod.volumes)
    if get("envFrom"):
        check_env_from(container["envFrom"], f"{path}.envFrom", out)
    if get("volumeMounts") or get("volumeDevices"):
        check_mounts(container, pod.volumes, path, out)
        check_devices(container, pod.volumes, path, out)
    policy = get("imagePullPolicy")
    if policy not in PULL_POLICIES:
        out.append(_unsupported(policy, PULL_POLICIES, f"{path}.imagePullPolicy"))
    if get("resources"):
        check_requirements(container["resources"], f"{path}.resources", out, pod.claims)
    if get("resizePolicy"):
        _check_resize(container["resizePolicy"], f"{path}.resizePolicy", pod, out)
    if get("securityContext"):
        where = f"{path}.securityContext"
        check_container_security(container["securityContext"], where, pod.host_users, out)


def _unsupported(value: str | None, allowed: tuple[str, ...], path: str) -> Cause:
    return fields.not_supported(path, value, allowed) if value else fields.required(path)


def _check_running(container: Object, path: str, pod: Surroundings, out: list[Cause]) -> None:
    """What only containers that stay have: hooks and probes."""
    lifecycle = container.get("lifecycle")
    if lifecycle is not None:
        check_lifecycle(lifecycle, f"{path}.lifecycle", pod.grace_period_s, out)
    check_probes(container, path, out)


def _check_ports(ports: Sequence[Object], path: str, out: list[Cause]) -> None:
    seen: set[str] = set()
    for position, port in enumerate(ports):
        name = port.get("name")
        if name:
            where = f"{path}[{position}].name"
            problems = port_name_problems(name)
            if problems:
                out += [fields.invalid(where, name, why) for why in problems]
            elif name in seen:
                out.append(fields.duplicate(where, name))
            seen.add(name)
        number = port.get("containerPort")
        if not number:
            out.append(fields.required(f"{path}[{position}].containerPort"))
        elif not 1 <= number <= 65535:
            check_port(number, f"{path}[{position}].containerPort", out)
        if port.get("hostPort"):
            check_port(port["hostPort"], f"{path}[{position}].hostPort", out)
        if port.get("protocol") != "TCP":
            check_protocol(port.get("protocol"), f"{path}[{position}].protocol", out)


def _check_host_ports(container: Object, path: str, taken: set[str], out: list[Cause]) -> None:
    for position, port in enumerate(container["ports"]):
        if not port.get("hostPort"):
            continue
        text = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
        if text in taken:
            out.append(fields.duplicate(f"{path}[{position}].hostPort", text))
        taken.add(text)


def _check_resize(
    policies: Sequence[Object], path: str, pod: Surroundings, out: list[Cause]
) -> None:
    seen: set[str] = set()
    for position, item in enumerate(policies):
        name, policy = item.get("resourceName") or "", item.get("restartPolicy") or ""
        if name in seen:
            out.append(fields.duplicate(f"{path}[{position}]", name))
        seen.add(name)
        if name not in ("cpu", "memory"):
            out.append(_unsupported(name, ("cpu", "memory"), path))
        if policy not in ("NotRequired", RESTART):
            out.append(_unsupported(policy, ("NotRequired", RESTART), path))
        if pod.restart_policy == "Never" and policy != "NotRequired":
            why = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            out.append(fields.invalid(path, policy, why))
