"""ComponentStatus (deprecated upstream, still asked for by `kubectl get cs`)."""

from __future__ import annotations

from typing import Any

from ...descriptor import Column, Kind
from ...errors import Object
from ..printing import NAME, name


def cells(obj: Object, now_s: float) -> list[Any]:
    status, message, error = "Unknown", "", ""
    for item in obj.get("conditions") or ():
        if item.get("type") == "Healthy":
            status = "Healthy" if item.get("status") == "True" else "Unhealthy"
            message, error = item.get("message") or "", item.get("error") or ""
            break
    return [name(obj), status, message, error]


KIND = Kind(
    group="",
    version="v1",
    kind="ComponentStatus",
    short_names=("cs",),
    computed=True,
    columns=(
        NAME,
        Column("Status", "string", "Status of the component conditions"),
        Column("Message", "string", "Message of the component conditions"),
        Column("Error", "string", "Error of the component conditions"),
    ),
    cells=cells,
    deprecated="v1 ComponentStatus is deprecated in v1.19+",
)
