"""Limits of cgroups that exist, for every runtime that makes containers in them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from ..linux import cgroups
from .interface import Resources, RuntimeFailure
from .verbs.create import limits_of

POD = "pod"
"""How the name of a pod's group begins, as kubelet's do."""


def limit(group: str, resources: Resources, *, make: bool = False) -> None:
    """Give a group other limits; `make` it where it is not. Raises RuntimeFailure."""
    limits = limits_of(resources)
    try:
        if make:
            cgroups.create(group, limits)
        else:
            cgroups.set_limits(group, limits)
    except OSError as error:
        raise RuntimeFailure(f"cannot change limits: {error.strerror}") from error


def pin(group: str, cpus: str) -> None:
    """Have it run on these processors only. Raises RuntimeFailure."""
    try:
        cgroups.pin(group, cpus)
    except OSError as error:
        raise RuntimeFailure(f"cannot change processors: {error.strerror}") from error


def sweep(root: str, used: Collection[str]) -> None:
    """Remove the groups of pods that have no container: an agent was killed before it made their
    first one, or after it had removed their last. `used` are those of the others. One in which
    something runs stays."""
    for group in cgroups.named(root, POD):
        if group not in used:
            cgroups.remove(group)


async def remove_all(root: str) -> None:
    """Remove a cluster's groups, with whatever still runs in them."""
    if not cgroups.remove(root):
        cgroups.kill(root)
        await asyncio.to_thread(cgroups.remove_when_empty, root)
