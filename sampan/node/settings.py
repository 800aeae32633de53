"""What an administrator may choose for a node: fields of upstream's KubeletConfiguration.

A file `kubelet.yaml` (kind KubeletConfiguration, kubelet.config.k8s.io/v1beta1) is read at the
node's start. Fields that mean nothing here are named in the log and passed over, as other tools
write them; wrong values are ValueErrors that say which field. Without the file nothing is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from sampan.api.times import parse_duration_s
from sampan.wire.quantity import QuantityError, whole

from .settingsfile import read_settings_file
from .thresholds import DEFAULTS, HARD, TRANSITION_S, Threshold, thresholds_of

log = logging.getLogger("sampan.node.settings")

FILE = "kubelet.yaml"
FILE_MAX = 1 << 20
"""Bytes of the file; a real one has a few kilobytes."""
RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
PIDS_DEFAULT = 4096
"""Processes of one pod. Upstream's default is no limit, and one pod that forks without end takes
the node with it; this is what OpenShift gives."""


class Settings(Struct, frozen=True):
    """Defaults are upstream's but for `pod_pids`."""

    max_pods: int = 110
    pod_pids: int = PIDS_DEFAULT
    """0 is no limit."""
    thresholds: tuple[Threshold, ...] = DEFAULTS
    transition_s: float = TRANSITION_S
    """How long a node condition stays once its threshold is no longer crossed."""
    soft_grace_s: float = 0.0
    """The most a pod gets to end when a soft threshold evicts it."""
    system_reserved: Mapping[str, str] = field(default_factory=dict)
    kube_reserved: Mapping[str, str] = field(default_factory=dict)
    enforced: bool = True
    """Pods together get no more than what is not reserved (enforceNodeAllocatable: pods)."""
    unsafe_sysctls: tuple[str, ...] = ()
    """Names and prefixes (ending in *) that pods may set besides the safe ones."""
    static_cpus: bool = False
    """cpuManagerPolicy: static."""
    full_cores: bool = False
    """Its option full-pcpus-only."""
    reserved_cpus: str = ""
    """reservedSystemCPUs: a list as "0,2-3"."""
    log_bytes: int = 10 << 20
    log_files: int = 5
    image_verification: str = "NeverVerifyPreloadedImages"
    """Who may use images that are here (accesses.py)."""
    image_allowlist: tuple[str, ...] = ()
    image_high_percent: int = 85
    """How full the disk may be before unused images go; 100 is never."""
    image_low_percent: int = 80
    """How full it is to be afterwards."""
    image_minimum_age_s: float = 120.0
    image_maximum_age_s: float = 0.0
    """How long an image may go unused; 0 is for ever."""
    crash_cap_s: float = 300.0
    """The most that a container which crashes again and again is held back (KEP-4603)."""

    def reserved(self, resource: str, measure: Callable[[str], int] = whole) -> int:
        """What pods cannot have, besides what the thresholds keep free."""
        kept = (self.system_reserved, self.kube_reserved)
        return sum(measure(part[resource]) for part in kept if resource in part)


def read_settings(path: Path) -> Settings:
    """Raises ValueError when the file is there and wrong."""
    return read_settings_file(path, FILE_MAX, parse_settings) or Settings()


def parse_settings(document: Any) -> Settings:
    """Raises ValueError."""
    if not isinstance(document, dict) or document.get("kind") != "KubeletConfiguration":
        raise ValueError("not a KubeletConfiguration")
    wanted = {key: value for key, value in document.items() if value is not None}
    for name in sorted(wanted.keys() - READERS.keys() - _EVICTION - {"kind", "apiVersion"}):
        log.warning("kubelet configuration: %s means nothing to this node", name)
    changes: dict[str, Any] = {}
    for name, (target, read) in READERS.items():
        if name in wanted:
            try:
                changes[target] = read(wanted[name])
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{name}: {error}") from error
    if wanted.keys() & _EVICTION:
        changes["thresholds"] = _thresholds(wanted)
    made = replace(Settings(), **changes)
    if made.image_low_percent >= made.image_high_percent:
        raise ValueError(
            f"imageGCLowThresholdPercent {made.image_low_percent} must be less than "
            f"imageGCHighThresholdPercent {made.image_high_percent}"
        )
    if 0 < made.image_maximum_age_s <= made.image_minimum_age_s:
        raise ValueError("imageMaximumGCAge must be greater than imageMinimumGCAge")
    if made.static_cpus and not (made.reserved_cpus or made.reserved("cpu", _nanos)):
        raise ValueError(
            "the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than 0"
        )
    return made


_EVICTION = {
    "evictionHard", "evictionSoft", "evictionSoftGracePeriod", "evictionMinimumReclaim",
    "mergeDefaultEvictionSettings",
}  # fmt: skip


def _thresholds(wanted: Mapping[str, Any]) -> tuple[Threshold, ...]:
    """Given hard thresholds stand instead of the defaults, unless they are to be merged."""
    hard = wanted.get("evictionHard")
    if hard is None:
        hard = HARD
    elif wanted.get("mergeDefaultEvictionSettings"):
        hard = {**HARD, **hard}
    graces = {
        name: seconds(text) for name, text in (wanted.get("evictionSoftGracePeriod") or {}).items()
    }
    soft, reclaim = wanted.get("evictionSoft") or {}, wanted.get("evictionMinimumReclaim") or {}
    return thresholds_of(hard, soft, graces, reclaim)


def seconds(text: Any) -> float:
    """A Go duration ("5m0s"). Raises ValueError."""
    found = parse_duration_s(str(text))
    if found < 0:
        raise ValueError(f"{text} is negative")
    return found


def _nanos(text: str) -> int:
    from sampan.wire.quantity import nanos

    return nanos(text)


def _count(value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"must be a number of at least {least}, not {value!r}")
    return value


def _verification(value: Any) -> str:
    from .accesses import POLICIES

    if value not in POLICIES:
        raise ValueError(f"{value!r} is none of {', '.join(POLICIES)}")
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value)


def _percent(value: Any) -> int:
    if _count(value, 0) > 100:
        raise ValueError(f"{value} must be between 0 and 100, inclusive")
    return int(value)


def _pids(value: Any) -> int:
    """-1 is no limit, as upstream."""
    return 0 if value == -1 else _count(value)


def _reserved(value: Any) -> dict[str, str]:
    out = {}
    for name, amount in value.items():
        if name not in RESERVABLE:
            raise ValueError(f"cannot reserve {name!r} resource")
        try:
            if whole(str(amount)) < 0:
                raise ValueError(f"resource quantity for {name!r} cannot be negative: {amount}")
        except QuantityError as error:
            raise ValueError(f"{name}: {error}") from error
        out[name] = str(amount)
    return out


def _enforced(value: Any) -> bool:
    unknown = set(value) - {"pods", "none"}
    if unknown:
        raise ValueError(f"only 'pods' and 'none' are enforced here, not {sorted(unknown)}")
    return "pods" in value


def _sysctls(value: Any) -> tuple[str, ...]:
    from .sysctls import check_pattern

    return tuple(check_pattern(str(item)) for item in value)


def _policy(value: Any) -> bool:
    if value not in ("none", "static"):
        raise ValueError(f"unknown policy: {value!r}")
    return bool(value == "static")


def _cpu_options(value: Any) -> bool:
    unknown = value.keys() - {"full-pcpus-only"}
    if unknown:
        raise ValueError(f"unsupported cpumanager option: {sorted(unknown)[0]!r}")
    return str(value.get("full-pcpus-only", "")).lower() == "true"


def _cpu_list(value: Any) -> str:
    from .cpus import parse_cpus

    parse_cpus(str(value))
    return str(value)


def _size(value: Any) -> int:
    amount = whole(str(value))
    if amount <= 0:
        raise ValueError(f"must be positive, not {value!r}")
    return amount


def _crash_cap(value: Any) -> float:
    name = "maxContainerRestartPeriod"
    if not isinstance(value, dict) or value.keys() - {name}:
        raise ValueError(f"must be a mapping with {name}")
    period_s = seconds(value[name]) if value.get(name) is not None else Settings().crash_cap_s
    if not 1 <= period_s <= Settings().crash_cap_s:
        raise ValueError(f"{name} (got: {period_s:g} seconds) must be set between 1s and 300s")
    return period_s


READERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "maxPods": ("max_pods", _count),
    "podPidsLimit": ("pod_pids", _pids),
    "evictionPressureTransitionPeriod": ("transition_s", seconds),
    "evictionMaxPodGracePeriod": ("soft_grace_s", lambda value: float(_count(value, 0))),
    "systemReserved": ("system_reserved", _reserved),
    "kubeReserved": ("kube_reserved", _reserved),
    "enforceNodeAllocatable": ("enforced", _enforced),
    "allowedUnsafeSysctls": ("unsafe_sysctls", _sysctls),
    "cpuManagerPolicy": ("static_cpus", _policy),
    "cpuManagerPolicyOptions": ("full_cores", _cpu_options),
    "reservedSystemCPUs": ("reserved_cpus", _cpu_list),
    "containerLogMaxSize": ("log_bytes", _size),
    "imagePullCredentialsVerificationPolicy": ("image_verification", _verification),
    "preloadedImagesVerificationAllowlist": ("image_allowlist", _texts),
    "imageGCHighThresholdPercent": ("image_high_percent", _percent),
    "imageGCLowThresholdPercent": ("image_low_percent", _percent),
    "imageMinimumGCAge": ("image_minimum_age_s", seconds),
    "imageMaximumGCAge": ("image_maximum_age_s", seconds),
    "crashLoopBackOff": ("crash_cap_s", _crash_cap),
    "containerLogMaxFiles": ("log_files", lambda value: _count(value, 2)),
}
