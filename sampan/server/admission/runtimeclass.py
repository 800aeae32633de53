"""RuntimeClass: a pod's class must exist; its overhead and scheduling rules become the pod's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.fields import quote
from sampan.api.resources import resource
from sampan.wire import quantity

from ..exchange import Write
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

OTHER_OVERHEAD = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"


def mutate(server: Server, write: Write) -> None:
    spec = write.obj.setdefault("spec", {})
    found = _class_of(server, write)
    if found is None:
        return
    overhead = _overhead(found)
    if overhead is not None:
        if spec.get("overhead") is not None and _read(spec["overhead"]) != _read(overhead):
            raise refuse(write, OTHER_OVERHEAD)
        spec["overhead"] = dict(overhead)
    _schedule(write, spec, found.get("scheduling") or {})


def validate(server: Server, write: Write) -> None:
    """The overhead is the class's, and nobody's else."""
    found = _class_of(server, write)
    overhead = None if found is None else _overhead(found)
    own = write.obj["spec"].get("overhead")
    if overhead is not None:
        if _read(own or {}) != _read(overhead):
            raise refuse(write, OTHER_OVERHEAD)
    elif own is not None:
        why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        raise refuse(write, why)


def _class_of(server: Server, write: Write) -> Object | None:
    name = write.obj["spec"].get("runtimeClassName")
    if not name:
        return None
    found = server.find_object(resource("runtimeclasses", "node.k8s.io"), "", name)
    if found is None:
        raise refuse(write, f"pod rejected: RuntimeClass {quote(name)} not found")
    return found


def _overhead(found: Object) -> Mapping[str, str] | None:
    """What the class adds to a pod, None if it says nothing of it."""
    return (found.get("overhead") or {}).get("podFixed") or {} if found.get("overhead") else None


def _read(amounts: Mapping[str, str]) -> Mapping[str, int]:
    return {name: quantity.nanos(amount) for name, amount in amounts.items()}


def _schedule(write: Write, spec: Object, scheduling: Object) -> None:
    wanted = scheduling.get("nodeSelector") or {}
    have = spec.get("nodeSelector") or {}
    for key, value in wanted.items():
        if have.get(key, value) != value:
            raise refuse(
                write,
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                f"pod.spec.nodeSelector[{key}] = {have[key]}",
            )
    if wanted:
        spec["nodeSelector"] = {**have, **wanted}
    added = scheduling.get("tolerations")
    if added:
        spec["tolerations"] = merged(spec.get("tolerations") or [], added)


def merged(first: Sequence[Object], second: Sequence[Object]) -> list[Object]:
    """Tolerations of both, without those that another one covers (util/tolerations)."""
    everything = [*first, *second]
    out: list[Object] = []
    for position, item in enumerate(everything):
        later = everything[position + 1 :]
        if any(covers(other, item) for other in out):
            continue
        if any(covers(other, item) and other != item for other in later):
            continue
        out.append(item)
    return out


def covers(wide: Object, item: Object) -> bool:
    """Does one toleration tolerate all that the other does?"""
    if wide == item:
        return True
    exists = wide.get("operator") == "Exists"
    if item.get("key", "") != wide.get("key", "") and (wide.get("key") or not exists):
        return False
    if wide.get("effect") and item.get("effect") != wide["effect"]:
        return False
    most = wide.get("tolerationSeconds")
    if wide.get("effect") == "NoExecute" and most is not None:
        seconds = item.get("tolerationSeconds")
        if seconds is None or seconds > most:
            return False
    plain = wide.get("operator") in (None, "", "Equal")
    same = item.get("operator") == "Equal" and item.get("value", "") == wide.get("value", "")
    return exists or (plain and same)


PLUGIN = Plugin("RuntimeClass", {("", "pods"): ("CREATE",)}, mutate, validate)
