"""Limits of cgroups that exist, for every runtime that makes containers in them."""

from __future__ import annotations

import asyncio

from ..linux import cgroups
from .interface import Resources, RuntimeFailure
from .verbs.create import limits_of


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


async def remove_all(root: str) -> None:
    """Remove a cluster's groups, with whatever still runs in them."""
    if not cgroups.remove(root):
        cgroups.kill(root)
        await asyncio.to_thread(cgroups.remove_when_empty, root)
