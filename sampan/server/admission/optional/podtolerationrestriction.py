"""PodTolerationRestriction: a namespace gives its pods tolerations, and says which they may have.

Both are lists of tolerations, in JSON, in annotations of the namespace; where there is none, the
configuration's (podtolerationrestriction.admission.k8s.io/v1alpha1: `default` and `whitelist`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.kinds.core.podspec.quality import BEST_EFFORT, qos_class
from sampan.api.resources import resource

from ... import documents
from ...exchange import Write
from ..configuration import Settings, versioned
from ..plugin import Plugin, refuse

if TYPE_CHECKING:
    from ...app import Server

DEFAULTS = "scheduler.alpha.kubernetes.io/defaultTolerations"
ALLOWED = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
VERSION = "podtolerationrestriction.admission.k8s.io/v1alpha1"
PRESSURE: Object = {
    "key": "node.kubernetes.io/memory-pressure",
    "operator": "Exists",
    "effect": "NoSchedule",
}
TEXTS = ("key", "operator", "value", "effect")
FIELDS = (*TEXTS, "tolerationSeconds")

Tolerations = Sequence[Object]


class PodTolerationRestriction(Struct, frozen=True):
    """What counts in a namespace that says nothing itself."""

    default: Tolerations = ()
    allowed: Tolerations = ()

    def mutate(self, server: Server, write: Write) -> None:
        spec = write.obj.setdefault("spec", {})
        have: Tolerations = spec.get("tolerations") or ()
        if write.operation == "CREATE":
            given = _of_namespace(server, write, DEFAULTS)
            have = merge(self.default if given is None else given, have)
        if qos_class(spec) != BEST_EFFORT:
            have = merge(have, (PRESSURE,))
        if have:
            spec["tolerations"] = [dict(item) for item in have]
        self.validate(server, write)

    def validate(self, server: Server, write: Write) -> None:
        have = (write.obj.get("spec") or {}).get("tolerations") or ()
        given = _of_namespace(server, write, ALLOWED) if have else ()
        allowed, scope = (self.allowed, "cluster") if given is None else (given, "namespace")
        if allowed and not all(any(covers(one, item) for one in allowed) for item in have):
            raise refuse(
                write,
                "pod tolerations (possibly merged with namespace default tolerations) conflict"
                f" with its {scope} whitelist",
            )


def merge(first: Iterable[Object], second: Iterable[Object]) -> Tolerations:
    """Both lists without what another of them covers; of equal ones the first stays."""
    both = [*first, *second]
    out: list[Object] = []
    for at, item in enumerate(both):
        later = (other for other in both[at + 1 :] if not _same(other, item))
        if not any(covers(other, item) for other in (*out, *later)):
            out.append(item)
    return out


def covers(wide: Object, narrow: Object) -> bool:
    """Does the one tolerate all that the other does (upstream's isSuperset)?"""
    if _same(wide, narrow):
        return True
    operator, key, effect = (wide.get(field) or "" for field in ("operator", "key", "effect"))
    if key != (narrow.get("key") or "") and (key or operator != "Exists"):
        return False
    if effect and effect != narrow.get("effect"):
        return False
    longest_s, seconds = wide.get("tolerationSeconds"), narrow.get("tolerationSeconds")
    if effect == "NoExecute" and longest_s is not None and (seconds is None or seconds > longest_s):
        return False
    if operator == "Exists":
        return True
    same_value = (wide.get("value") or "") == (narrow.get("value") or "")
    return operator in ("", "Equal") and narrow.get("operator") == "Equal" and same_value


def _same(one: Object, other: Object) -> bool:
    if one.get("tolerationSeconds") != other.get("tolerationSeconds"):
        return False
    return all((one.get(field) or "") == (other.get(field) or "") for field in TEXTS)


def _of_namespace(server: Server, write: Write, annotation: str) -> Tolerations | None:
    """The list of an annotation, None where the namespace has none."""
    found = server.find_object(resource("namespaces"), "", write.attributes.namespace) or {}
    text = ((found.get("metadata") or {}).get("annotations") or {}).get(annotation)
    if text is None:
        return None
    if not text:
        return ()
    try:
        return tolerations_of(orjson.loads(text), annotation)
    except ValueError as error:
        raise refuse(write, f"{annotation} of the namespace: {error}") from None


def tolerations_of(raw: Any, path: str) -> Tolerations:
    """A decoded list, checked. Raises ValueError."""
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise ValueError(f"{path}: must be a list of tolerations")
    for item in raw:
        fields = documents.mapping(item, path, FIELDS)
        for field, value in fields.items():
            kind = int if field == "tolerationSeconds" else str
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise ValueError(f"{path}: {field} is of the wrong type")
    return raw


def make(settings: Settings) -> Plugin:
    """Without a configuration only annotations count. Raises ValueError."""
    raw = versioned(settings, VERSION, "Configuration", ("default", "whitelist"))
    plugin = PodTolerationRestriction(
        tolerations_of(raw.get("default"), "default"),
        tolerations_of(raw.get("whitelist"), "whitelist"),
    )
    on = {("", "pods"): ("CREATE", "UPDATE")}
    return Plugin(settings.name, on, plugin.mutate, plugin.validate)
