"""PodResizeValidator: a bound pod cannot grow beyond what its node has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.kinds.core.podspec.resources import total_requests
from sampan.api.resources import resource
from sampan.wire.quantity import QuantityError, parse

from ..exchange import Write
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

OS_LABEL = "kubernetes.io/os"
UNITS = {"cpu": 10**6, "memory": 10**9}
"""In which the message counts, in billionths: upstream tells milli-CPUs and bytes."""


def validate(server: Server, write: Write) -> None:
    spec = write.obj.get("spec") or {}
    name = spec.get("nodeName") or ""
    if not name or spec == (write.old or {}).get("spec"):
        return
    node = server.find_object(resource("nodes"), "", name)
    if node is None:
        raise refuse(write, f'node "{name}" not found')
    wanted = total_requests(spec)
    given = (node.get("status") or {}).get("allocatable") or {}
    short = []
    for what, unit in UNITS.items():
        asked, there = _amount(wanted.get(what), unit), _amount(given.get(what), unit)
        if asked > there:
            short.append(f"{what}, requested: {asked}, allocatable: {there}")
    if short:
        why = "; ".join(short)
        raise refuse(write, f"Node didn't have enough allocatable resources: {why}")
    system = (node["metadata"].get("labels") or {}).get(OS_LABEL, "")
    if system != "linux":
        raise refuse(
            write, f'pod resize is only supported on linux nodes, node "{name}" is "{system}"'
        )


def _amount(value: object, unit: int) -> int:
    """A quantity in a unit, rounded up as Go does; what is none counts as nothing."""
    if value is None:
        return 0
    try:
        return -(-parse(str(value)).nanos // unit)
    except QuantityError:
        return 0


PLUGIN = Plugin("PodResizeValidator", {("", "pods/resize"): ("UPDATE",)}, validate=validate)
