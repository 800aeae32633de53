"""Event (events.k8s.io/v1): another view of the stored core Event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Kind
from ...errors import Cause, Object
from ..core import event as core_event

RENAMED = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
"""Fields of core/v1 and what events.k8s.io/v1 calls them; the others have one name."""
ORIGINAL = {new: old for old, new in RENAMED.items()}
UNSET = "needs to be unset"


def from_stored(obj: Object) -> Object:
    """The events.k8s.io form of a core Event."""
    out = {RENAMED.get(field, field): value for field, value in obj.items()}
    out["apiVersion"] = "events.k8s.io/v1"
    out.setdefault("eventTime", None)
    return out


def to_stored(obj: Object) -> Object:
    """The core Event of an events.k8s.io one."""
    out = {ORIGINAL.get(field, field): value for field, value in obj.items()}
    out["apiVersion"] = "v1"
    # Core events must name their object; the newer form calls it regarding and may leave it out.
    out.setdefault("involvedObject", {})
    return out


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    event = to_stored(obj)
    core_event.check_event(event, out)
    if old is not None:
        _check_update(event, to_stored(old), out)
        return out
    _check_series(event, out)
    if not event.get("eventTime"):
        out.append(fields.required("eventTime"))
    kind = event.get("type") or ""
    if kind not in ("Normal", "Warning"):
        out.append(fields.invalid("type", "", f"has invalid value: {kind}"))
    for field in ("firstTimestamp", "lastTimestamp", "count"):
        if event.get(field):
            out.append(fields.invalid(field, "", UNSET))
    source = event.get("source") or {}
    if source.get("component") or source.get("host"):
        out.append(fields.invalid("source", "", UNSET))
    return out


def _check_series(event: Object, out: list[Cause]) -> None:
    series = event.get("series")
    if series is None:
        return
    if (series.get("count") or 0) < 2:
        out.append(fields.invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        out.append(fields.required("series.lastObservedTime"))


def _check_update(event: Object, old: Object, out: list[Cause]) -> None:
    if event.get("series") != old.get("series"):
        _check_series(event, out)
    for field, shown in (
        ("involvedObject", "involvedObject"), ("reason", "reason"), ("message", "message"),
        ("source", "source"), ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"), ("count", "count"), ("type", "type"),
        ("eventTime", "eventTime"), ("action", "action"), ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ):  # fmt: skip
        out += fields.unchanged(shown, event.get(field), old.get(field))


def default(obj: Object) -> None:
    obj.setdefault("deprecatedSource", {})


def selectable(obj: Object) -> Mapping[str, str]:
    """The regarding object's fields, under both names, as upstream converts them."""
    found = dict(core_event.selectable(to_stored(obj)))
    for name in tuple(found):
        if name.startswith("involvedObject."):
            found[name.replace("involvedObject.", "regarding.", 1)] = found[name]
    found["reportingController"] = found["reportingComponent"]
    return found


def cells(obj: Object, now_s: float) -> list[Any]:
    return core_event.cells(to_stored(obj), now_s)


KIND = Kind(
    group="events.k8s.io",
    version="v1",
    kind="Event",
    short_names=("ev",),
    storage="events",
    stored_as=("", "v1"),
    from_stored=from_stored,
    to_stored=to_stored,
    default=default,
    validate=validate,
    fields=selectable,
    columns=core_event.COLUMNS,
    cells=cells,
)
