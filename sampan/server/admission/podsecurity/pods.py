"""What checks share: walking a pod's containers, and words for what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sampan.api.errors import Object

CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


class Violation(NamedTuple):
    """A check that did not pass."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


Check = Callable[[Object, Object], Violation | None]
"""(metadata, spec) -> what is wrong."""


def containers_of(spec: Object) -> Iterator[Object]:
    for field in CONTAINERS:
        yield from spec.get(field) or ()


def context_of(owner: Object) -> Object:
    """The securityContext of a pod's spec or a container."""
    found: Object = owner.get("securityContext") or {}
    return found


def names(spec: Object, test: Callable[[Object], Any]) -> list[str]:
    """Names of the containers that the test picks."""
    return [item.get("name") or "" for item in containers_of(spec) if test(item)]


def quoted(items: Iterable[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)


def several(word: str, items: Sequence[Any]) -> str:
    """The word, in the plural unless there is one item."""
    return word if len(items) == 1 else f"{word}s"


def listed(found: Sequence[str]) -> str:
    """`container "a"`, `containers "a", "b"`."""
    return f"{several('container', found)} {quoted(found)}"


def setters(pod: bool, found: Sequence[str]) -> str:
    """`pod`, `container "a"`, or both joined with `and`; "" for none."""
    parts = ["pod"] if pod else []
    if found:
        parts.append(listed(found))
    return " and ".join(parts)


def uses_user_namespace(spec: Object) -> bool:
    """Pods in a user namespace of their own may do more (KEP-127)."""
    return spec.get("hostUsers") is False


def is_windows(spec: Object) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"
