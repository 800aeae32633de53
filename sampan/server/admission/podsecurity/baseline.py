"""Checks of the baseline level (k8s.io/pod-security-admission policy), in upstream's words."""

from __future__ import annotations

from sampan.api.errors import Object

from .pods import (
    Violation,
    containers_of,
    context_of,
    listed,
    names,
    quoted,
    setters,
    several,
    uses_user_namespace,
)

APPARMOR_PREFIX = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_PREFIX = "container.seccomp.security.alpha.kubernetes.io/"
CAPABILITIES = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
    "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})  # fmt: skip
SYSCTLS = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
})  # fmt: skip
SYSCTLS_1_27 = SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
SYSCTLS_1_29 = SYSCTLS_1_27 | {
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SYSCTLS_1_32 = SYSCTLS_1_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
SELINUX_TYPES_1_31 = SELINUX_TYPES | {"container_engine_t"}
SECCOMP = ("RuntimeDefault", "Localhost")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HOOKS = ("postStart", "preStop")


def host_namespaces(meta: Object, spec: Object) -> Violation | None:
    found = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return Violation("host namespaces", ", ".join(found)) if found else None


def privileged(meta: Object, spec: Object) -> Violation | None:
    found = names(spec, lambda item: context_of(item).get("privileged"))
    detail = f"{listed(found)} must not set securityContext.privileged=true"
    return Violation("privileged", detail) if found else None


def capabilities(meta: Object, spec: Object) -> Violation | None:
    def added(item: Object) -> set[str]:
        return set((context_of(item).get("capabilities") or {}).get("add") or ()) - CAPABILITIES

    found = names(spec, added)
    if not found:
        return None
    bad = sorted(set().union(*map(added, containers_of(spec))))
    return Violation(
        "non-default capabilities",
        f"{listed(found)} must not include {quoted(bad)} in securityContext.capabilities.add",
    )


def host_paths(meta: Object, spec: Object) -> Violation | None:
    found = [item["name"] for item in spec.get("volumes") or () if item.get("hostPath") is not None]
    return (
        Violation("hostPath volumes", f"{several('volume', found)} {quoted(found)}")
        if found
        else None
    )


def host_ports(meta: Object, spec: Object) -> Violation | None:
    ports: set[str] = set()
    found = []
    for item in containers_of(spec):
        own = {str(port["hostPort"]) for port in item.get("ports") or () if port.get("hostPort")}
        if own:
            found.append(item["name"])
            ports |= own
    if not found:
        return None
    verb, shown = "uses" if len(found) == 1 else "use", sorted(ports)
    return Violation(
        "hostPort", f"{listed(found)} {verb} {several('hostPort', shown)} {', '.join(shown)}"
    )


def probe_hosts(meta: Object, spec: Object) -> Violation | None:
    hosts: set[str] = set()
    found = set()
    for item in containers_of(spec):
        hooks = item.get("lifecycle") or {}
        handlers = [item.get(name) for name in PROBES] + [hooks.get(name) for name in HOOKS]
        own = {
            str((handler.get(action) or {}).get("host") or "")
            for handler in handlers
            if handler
            for action in ("httpGet", "tcpSocket")
        } - {""}
        if own:
            found.add(item["name"])
            hosts |= own
    if not found:
        return None
    shown, verb = sorted(found), "uses" if len(found) == 1 else "use"
    word = several("probe or lifecycle host", sorted(hosts))
    detail = f"{listed(shown)} {verb} {word} {quoted(sorted(hosts))}"
    return Violation("probe or lifecycle host", detail)


def apparmor(meta: Object, spec: Object) -> Violation | None:
    def bad(owner: Object) -> str:
        kind = (context_of(owner).get("appArmorProfile") or {}).get("type") or ""
        return "" if kind in ("", *SECCOMP) else kind

    found = names(spec, bad)
    values = sorted({bad(spec), *map(bad, containers_of(spec))} - {""})
    parts = [text for text in (setters(bool(bad(spec)), found),) if text]
    annotations = sorted(
        f'{key}="{value}"'
        for key, value in (meta.get("annotations") or {}).items()
        if key.startswith(APPARMOR_PREFIX)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    if annotations:
        parts.append(several("annotation", annotations))
        values += annotations
    if not parts:
        return None
    return Violation(
        several("forbidden AppArmor profile", values),
        f"{' and '.join(parts)} must not set AppArmor profile type to {quoted(values)}",
    )


def _selinux(meta: Object, spec: Object, allowed: frozenset[str]) -> Violation | None:
    def options(owner: Object) -> Object:
        found: Object = context_of(owner).get("seLinuxOptions") or {}
        return found

    def bad(owner: Object) -> bool:
        own = options(owner)
        return bool((own.get("type") or "") not in allowed or own.get("user") or own.get("role"))

    who = setters(bad(spec), names(spec, bad))
    if not who:
        return None
    everybody = [options(owner) for owner in (spec, *containers_of(spec))]
    types = sorted({item.get("type") or "" for item in everybody} - allowed)
    what = [f"{several('type', types)} {quoted(types)}"] if types else []
    what += [
        f"{field} may not be set"
        for field in ("user", "role")
        if any(item.get(field) for item in everybody)
    ]
    detail = f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(what)}"
    return Violation("seLinuxOptions", detail)


def selinux(meta: Object, spec: Object) -> Violation | None:
    return _selinux(meta, spec, SELINUX_TYPES)


def selinux_1_31(meta: Object, spec: Object) -> Violation | None:
    return _selinux(meta, spec, SELINUX_TYPES_1_31)


def proc_mount(meta: Object, spec: Object) -> Violation | None:
    def mount(item: Object) -> str:
        found = context_of(item).get("procMount") or "Default"
        return "" if found == "Default" else found

    found = names(spec, mount)
    if not found:
        return None
    bad = quoted(sorted({mount(item) for item in containers_of(spec)} - {""}))
    return Violation(
        "procMount", f"{listed(found)} must not set securityContext.procMount to {bad}"
    )


def proc_mount_1_35(meta: Object, spec: Object) -> Violation | None:
    return None if uses_user_namespace(spec) else proc_mount(meta, spec)


def seccomp_annotations(meta: Object, spec: Object) -> Violation | None:
    """Before 1.19 profiles were annotations."""
    annotations = meta.get("annotations") or {}
    keys = [SECCOMP_POD, *(SECCOMP_PREFIX + item["name"] for item in containers_of(spec))]
    found = sorted(
        f'{key}="{annotations[key]}"'
        for key in keys
        if key in annotations
        and annotations[key] not in ("runtime/default", "docker/default")
        and not annotations[key].startswith("localhost/")
    )
    detail = f"forbidden {several('annotation', found)} {', '.join(found)}"
    return Violation("seccompProfile", detail) if found else None


def seccomp(meta: Object, spec: Object) -> Violation | None:
    def bad(owner: Object) -> str:
        profile = context_of(owner).get("seccompProfile")
        kind = (profile or {}).get("type") or ""
        return "" if profile is None or kind in SECCOMP else kind

    who = setters(bool(bad(spec)), names(spec, bad))
    if not who:
        return None
    values = quoted(sorted({bad(owner) for owner in (spec, *containers_of(spec))} - {""}))
    return Violation(
        "seccompProfile", f"{who} must not set securityContext.seccompProfile.type to {values}"
    )


def _sysctls(spec: Object, allowed: frozenset[str]) -> Violation | None:
    given = [item.get("name") or "" for item in context_of(spec).get("sysctls") or ()]
    found = [name for name in given if name not in allowed]
    return Violation("forbidden sysctls", ", ".join(found)) if found else None


def sysctls(meta: Object, spec: Object) -> Violation | None:
    return _sysctls(spec, SYSCTLS)


def sysctls_1_27(meta: Object, spec: Object) -> Violation | None:
    return _sysctls(spec, SYSCTLS_1_27)


def sysctls_1_29(meta: Object, spec: Object) -> Violation | None:
    return _sysctls(spec, SYSCTLS_1_29)


def sysctls_1_32(meta: Object, spec: Object) -> Violation | None:
    return _sysctls(spec, SYSCTLS_1_32)


def host_process(meta: Object, spec: Object) -> Violation | None:
    def bad(owner: Object) -> bool:
        return bool((context_of(owner).get("windowsOptions") or {}).get("hostProcess"))

    who = setters(bad(spec), names(spec, bad))
    detail = f"{who} must not set securityContext.windowsOptions.hostProcess=true"
    return Violation("hostProcess", detail) if who else None
