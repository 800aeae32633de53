"""Shared cells of printed tables: ages, label lists, containers (pkg/printers/internalversion).

Upstream's servers always print the wide form and let the client hide columns by priority, so a
row here always has every cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..descriptor import Column
from ..errors import BadRequest, Object
from ..selectors import from_label_selector
from ..times import TimeError, parse_time

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
NONE, UNKNOWN, UNSET = "<none>", "<unknown>", "<unset>"
SHOWN_AT_MOST = 3
"""Entries of a list shown before "+ N more...": wider cells would break terminals."""

NAME = Column(
    "Name", "string", "Name of the object, unique within its namespace for its kind.", "name"
)
AGE = Column("Age", "string", "Time since the object was created.")
CONTAINERS = Column("Containers", "string", "Names of each container in the template.", "", 1)
IMAGES = Column("Images", "string", "Images referenced by each container in the template.", "", 1)
SELECTOR = Column("Selector", "string", "The selector of the object's pods.", "", 1)


def human_duration(seconds: float) -> str:
    """A rough length of time, as k8s.io/apimachinery util/duration HumanDuration."""
    whole = int(seconds)
    if whole < 0:
        # A second of disagreement between clocks is nothing.
        return "<invalid>" if whole < -1 else "0s"
    if whole < 2 * MINUTE_S:
        return f"{whole}s"
    if whole < 3 * HOUR_S:
        minutes = whole // MINUTE_S
        return _two(minutes, "m", whole % MINUTE_S, "s") if minutes < 10 else f"{minutes}m"
    hours = whole // HOUR_S
    if hours < 48:
        return _two(hours, "h", whole // MINUTE_S % 60, "m") if hours < 8 else f"{hours}h"
    days = hours // 24
    if days < 365 * 2:
        return _two(days, "d", hours % 24, "h") if days < 8 else f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"


def since(timestamp: str | None, now_s: float) -> str:
    """Time since `timestamp`, "<unknown>" when there is none."""
    if not timestamp:
        return UNKNOWN
    try:
        return human_duration(now_s - parse_time(timestamp))
    except TimeError:
        return UNKNOWN


def age(obj: Object, now_s: float) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now_s)


def name(obj: Object) -> str:
    text: str = obj["metadata"].get("name", "")
    return text


def labels_text(labels: Mapping[str, str] | None) -> str:
    """labels.FormatLabels."""
    if not labels:
        return NONE
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def selector_text(selector: Object | None) -> str:
    """metav1.FormatLabelSelector."""
    if not selector:
        return NONE
    try:
        return str(from_label_selector(selector)) or NONE
    except BadRequest:
        return "<error>"


def container_cells(template: Object | None) -> tuple[str, str]:
    """(names, images) of a pod template's containers."""
    containers: Sequence[Object] = ((template or {}).get("spec") or {}).get("containers") or ()
    return (
        ",".join(item.get("name", "") for item in containers),
        ",".join(item.get("image", "") for item in containers),
    )


def shortened(items: Iterable[str], limit: int = SHOWN_AT_MOST) -> str:
    """At most `limit` items, then how many more there are."""
    everything = list(items)
    text = ",".join(everything[:limit])
    rest = len(everything) - limit
    return f"{text} + {rest} more..." if rest > 0 else text


def balancer_text(status: Object | None) -> str:
    """The addresses a load balancer gave a Service or Ingress."""
    ingress = ((status or {}).get("loadBalancer") or {}).get("ingress") or ()
    found = {item.get("ip") or item.get("hostname") or "" for item in ingress}
    return ",".join(sorted(found - {""}))


def condition_status(obj: Object, kind: str) -> str:
    """The status of a condition: "True", "False", "Unknown", "" when it is absent."""
    for item in (obj.get("status") or {}).get("conditions") or ():
        if item.get("type") == kind:
            text: str = item.get("status", "")
            return text
    return ""


CREATED_COLUMNS = (NAME, Column("Created At", "date", "When the object was created."))
"""What upstream prints of kinds without columns of their own."""


def created_cells(obj: Object, now_s: float) -> list[Any]:
    return [name(obj), obj["metadata"].get("creationTimestamp") or UNKNOWN]
