"""What is known of one object when somebody asks why: plain objects as the API has them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.api.times import parse_time


class Finding(NamedTuple):
    """One thing that is wrong, or worth knowing."""

    cause: str
    """A name for programs, as in "unschedulable/resources"."""
    text: str
    """What is the matter, a sentence."""
    evidence: Sequence[str] = ()
    """The stored facts that say so."""
    fix: Sequence[str] = ()
    """What to change."""
    broken: bool = True
    """False: all is well, or it will be by itself."""
    note: bool = False
    """Worth knowing, whatever else there is."""


class Facts(Struct):
    """The object asked about, and what around it may have to do with it."""

    obj: Object
    events: list[Object] = field(default_factory=list)
    """On the object itself, the oldest first."""
    owners: list[Object] = field(default_factory=list)
    """Its controller, that one's, and so on; autoscalers of the last come behind it."""
    parts: list[Facts] = field(default_factory=list)
    """Pods of a workload, and the set between it and them."""
    nodes: list[Object] = field(default_factory=list)
    judged: dict[str, list[str]] = field(default_factory=dict)
    """Why each node does not take the pod, by its name, as the scheduler would say now."""
    free: dict[str, dict[str, str]] = field(default_factory=dict)
    """What nodes have left of what they are short of: "500m of 2"."""
    logs: dict[str, str] = field(default_factory=dict)
    """The last that containers wrote before they ended, by name."""
    others: dict[str, list[Object]] = field(default_factory=dict)
    """More of the namespace or cluster, by plural: pods, endpointslices, storageclasses, ..."""
    now_s: float = 0.0

    @property
    def kind(self) -> str:
        return str(self.obj["kind"])

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def spec(self) -> Object:
        found: Object = self.obj.get("spec") or {}
        return found

    @property
    def status(self) -> Object:
        found: Object = self.obj.get("status") or {}
        return found

    @property
    def title(self) -> str:
        return f"{self.kind.lower()}/{self.name}"

    def condition(self, kind: str) -> Object:
        """{} when there is none."""
        listed: Iterable[Object] = self.status.get("conditions") or ()
        return next((item for item in listed if item.get("type") == kind), {})

    def event(self, *reasons: str) -> Object | None:
        """The last one with one of these reasons."""
        found = (item for item in reversed(self.events) if item.get("reason") in reasons)
        return next(found, None)


def said(event: Object) -> str:
    """An event as evidence."""
    times = event.get("count") or (event.get("series") or {}).get("count") or 1
    often = f" ({times} times)" if times > 1 else ""
    return f"event {event.get('reason')}: {event.get('message')}{often}"


def seconds_since(stamp: str | None, now_s: float) -> float:
    return max(0.0, now_s - parse_time(stamp)) if stamp else 0.0


def labels_of(obj: Object) -> dict[str, Any]:
    return obj["metadata"].get("labels") or {}


def plural(number: int, word: str) -> str:
    """ "1 pod", "2 pods"."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def taint_text(taint: Object) -> str:
    """As kubectl taint writes it."""
    value = taint.get("value")
    return f"{taint['key']}{'=' if value else ''}{value or ''}:{taint['effect']}"


def is_finished(pod: Object) -> bool:
    """It has ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
