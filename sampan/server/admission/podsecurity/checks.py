"""Which checks a standard has, by version: the table of k8s.io/pod-security-admission."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from sampan.api.errors import Object

from . import baseline, restricted
from .levels import BASELINE, PRIVILEGED, Standard
from .pods import Check, Violation

NEWEST = 36
"""The newest version there are checks for: ours."""


class Row(NamedTuple):
    """A check: its forms by the version they begin with, oldest first. `until` is where a stricter
    check of the restricted level takes its place, for restricted alone."""

    forms: tuple[tuple[int, Check], ...]
    until: int = NEWEST + 1


BASELINE_ROWS = (
    Row(((0, baseline.apparmor),)),
    Row(((0, baseline.capabilities),), until=22),
    Row(((0, baseline.host_namespaces),)),
    Row(((0, baseline.host_paths),), until=0),
    Row(((0, baseline.host_ports),)),
    Row(((34, baseline.probe_hosts),)),
    Row(((0, baseline.privileged),)),
    Row(((0, baseline.proc_mount), (35, baseline.proc_mount_1_35)), until=35),
    Row(((0, baseline.selinux), (31, baseline.selinux_1_31))),
    Row(((0, baseline.seccomp_annotations), (19, baseline.seccomp)), until=19),
    Row(
        (
            (0, baseline.sysctls),
            (27, baseline.sysctls_1_27),
            (29, baseline.sysctls_1_29),
            (32, baseline.sysctls_1_32),
        )
    ),
    Row(((0, baseline.host_process),)),
)
RESTRICTED_ROWS = (
    Row(((8, restricted.escalation), (25, restricted.escalation_1_25))),
    Row(((22, restricted.capabilities), (25, restricted.capabilities_1_25))),
    Row(((35, baseline.proc_mount),)),
    Row(((0, restricted.volumes),)),
    Row(((0, restricted.non_root), (35, restricted.non_root_1_35))),
    Row(((23, restricted.root_user), (35, restricted.root_user_1_35))),
    Row(((19, restricted.profile), (25, restricted.profile_1_25))),
)


@lru_cache(maxsize=128)
def checks_of(standard: Standard) -> tuple[Check, ...]:
    """The checks of a standard, in the order they are reported; remembered per standard."""
    if standard.level == PRIVILEGED:
        return ()
    version = min(standard.version, NEWEST)
    if standard.level == BASELINE:
        return tuple(_forms(BASELINE_ROWS, version))
    kept = [row for row in BASELINE_ROWS if version < row.until]
    return tuple(_forms((*kept, *RESTRICTED_ROWS), version))


def _forms(rows: tuple[Row, ...], version: int) -> list[Check]:
    out = []
    for row in rows:
        known = [check for begin, check in row.forms if begin <= version]
        if known:
            out.append(known[-1])
    return out


def violations(standard: Standard, meta: Object, spec: Object) -> list[Violation]:
    """What a pod does that the standard forbids."""
    found = (check(meta, spec) for check in checks_of(standard))
    return [item for item in found if item is not None]
