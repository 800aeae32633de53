"""Kernel parameters pods may set: the safe ones, and those the administrator allows. Pure.

pkg/kubelet/sysctl: a safe one belongs to a namespace of the pod's own and can hurt nobody else.
What is in no namespace is refused whoever allows it (CVE-2022-0811 is about values; those are
checked by the API).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

FORBIDDEN = "SysctlForbidden"
SAFE = frozenset((
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
))  # fmt: skip
IPC, NET = "IPC", "Net"
# Which namespace a parameter belongs to; upstream calls them by the names above.
_NAMESPACES = (
    ("kernel.sem", IPC), ("kernel.shm", IPC), ("kernel.msg", IPC), ("fs.mqueue.", IPC),
    ("net.", NET),
)  # fmt: skip
_PATTERN = r"[a-z0-9](?:[-_a-z0-9]*[a-z0-9])?(?:[./][a-z0-9_*-]+)*\*?"
PATTERN_MAX = 253


def dotted(name: str) -> str:
    """With dots between the parts: whichever of "." and "/" comes first separates them."""
    first = re.search(r"[./]", name)
    if first is None or first.group() == ".":
        return name
    return name.translate(str.maketrans("./", "/."))


def namespace_of(name: str) -> str:
    """ "IPC", "Net", or "" for a parameter of the whole machine."""
    exact = name == "kernel.shm_rmid_forced"
    if exact:
        return IPC
    return next((kind for prefix, kind in _NAMESPACES if name.startswith(prefix)), "")


def check_pattern(text: str) -> str:
    """A name or prefix to be allowed, dotted. Raises ValueError."""
    if len(text) > PATTERN_MAX or not re.fullmatch(_PATTERN, text):
        raise ValueError(f"sysctl {text!r} is malformed")
    name = dotted(text)
    if not namespace_of(name.removesuffix("*")):
        raise ValueError(f"the sysctl {text!r} are not known to be namespaced")
    return name


def refusal(spec: Mapping[str, Any], allowed: Iterable[str] = ()) -> str:
    """Why a pod cannot have the parameters it asks for; "" when it can."""
    asked = (spec.get("securityContext") or {}).get("sysctls") or ()
    patterns = tuple(allowed) if asked else ()
    for item in asked:
        name = dotted(item["name"])
        if name not in SAFE and not any(_allows(pattern, name) for pattern in patterns):
            return f'forbidden sysctl: "{name}" not allowlisted'
        kind = namespace_of(name)
        shared = {IPC: spec.get("hostIPC"), NET: spec.get("hostNetwork")}.get(kind)
        if shared:
            return f'forbidden sysctl: "{name}" not allowed with host {kind} enabled'
    return ""


def _allows(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def wanted(spec: Mapping[str, Any]) -> dict[str, str]:
    """Dotted name -> value."""
    asked = (spec.get("securityContext") or {}).get("sysctls") or ()
    return {dotted(item["name"]): str(item["value"]) for item in asked}
