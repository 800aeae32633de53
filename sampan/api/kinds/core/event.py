"""Event: the stored form, shared with events.k8s.io."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..formats import check_qualified
from ..printing import since

MAX_WORD = 128
"""Bytes of reportingInstance, action and reason."""
MAX_MESSAGE = 1024
MISMATCH = "does not match event.namespace"
COLUMNS = (
    Column("Last Seen", "string", "Time since the event last happened."),
    Column("Type", "string", "Normal or Warning."),
    Column("Reason", "string", "Why it happened, in one word."),
    Column("Object", "string", "What it happened to."),
    Column("Subobject", "string", "The part it happened to.", "", 1),
    Column("Source", "string", "Who says so.", "", 1),
    Column("Message", "string", "What happened."),
    Column("First Seen", "string", "Time since it first happened.", "", 1),
    Column("Count", "string", "How often it happened.", "", 1),
    Column("Name", "string", "Name of the event.", "name", 1),
)


def check_event(obj: Object, out: list[Cause]) -> None:
    """What holds for events of either API (legacyValidateEvent)."""
    namespace = obj["metadata"].get("namespace", "")
    involved = (obj.get("involvedObject") or {}).get("namespace") or ""
    path = "involvedObject.namespace"
    if not obj.get("eventTime"):
        allowed = namespace == involved if involved else namespace in ("", "default")
        if not allowed:
            out.append(fields.invalid(path, involved, MISMATCH))
        return
    if not involved and namespace not in ("default", "kube-system"):
        out.append(fields.invalid(path, involved, MISMATCH))
    controller = obj.get("reportingComponent") or ""
    if not controller:
        out.append(fields.required("reportingController"))
    check_qualified(controller, "reportingController", out)
    for field in ("reportingInstance", "action", "reason"):
        value = obj.get(field) or ""
        if not value:
            out.append(fields.required(field))
        elif len(value.encode()) > MAX_WORD:
            why = f"can have at most {MAX_WORD} characters"
            out.append(fields.invalid(field, "", why))
    if len((obj.get("message") or "").encode()) > MAX_MESSAGE:
        why = f"can have at most {MAX_MESSAGE} characters"
        out.append(fields.invalid("message", "", why))


def default(obj: Object) -> None:
    """Fields upstream prints though they are empty."""
    for field in ("reportingComponent", "reportingInstance"):
        obj.setdefault(field, "")
    obj.setdefault("source", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    check_event(obj, out)
    return out


def selectable(obj: Object) -> Mapping[str, str]:
    involved, source = obj.get("involvedObject") or {}, obj.get("source") or {}
    controller = obj.get("reportingComponent") or ""
    return {
        **{
            f"involvedObject.{field}": involved.get(field) or ""
            for field in (
                "kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath",
            )
        },
        "reason": obj.get("reason") or "",
        "reportingComponent": controller,
        "source": source.get("component") or controller,
        "type": obj.get("type") or "",
    }  # fmt: skip


def cells(obj: Object, now_s: float) -> list[Any]:
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or first
    count = obj.get("count") or 1
    series = obj.get("series")
    if series is not None:
        last, count = series.get("lastObservedTime"), series.get("count") or 0
    involved, source = obj.get("involvedObject") or {}, obj.get("source") or {}
    target = (involved.get("kind") or "").lower()
    if involved.get("name"):
        target = f"{target}/{involved['name']}"
    component = source.get("component") or obj.get("reportingComponent") or ""
    instance = source.get("host") or obj.get("reportingInstance") or ""
    return [
        since(last, now_s),
        obj.get("type") or "",
        obj.get("reason") or "",
        target,
        involved.get("fieldPath") or "",
        f"{component}, {instance}" if instance else component,
        (obj.get("message") or "").strip(),
        since(first, now_s),
        count,
        obj["metadata"].get("name", ""),
    ]


KIND = Kind(
    group="",
    version="v1",
    kind="Event",
    short_names=("ev",),
    storage="events",
    default=default,
    validate=validate,
    fields=selectable,
    columns=COLUMNS,
    cells=cells,
    name_rule="path",
)
