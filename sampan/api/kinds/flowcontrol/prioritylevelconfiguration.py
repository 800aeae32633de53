"""PriorityLevelConfiguration (flowcontrol.apiserver.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import STATUS_ALONE, Column, Kind
from ...errors import Cause, Object
from ..formats import check_nonnegative
from ..printing import AGE, NAME, NONE, age, name

QUEUING = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}
TYPES = ("Exempt", "Limited")
RESPONSES = ("Queue", "Reject")


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("type") == "Exempt":
        exempt = spec.get("exempt")
        if exempt is None:
            exempt = spec["exempt"] = {}
        exempt.setdefault("nominalConcurrencyShares", 0)
        exempt.setdefault("lendablePercent", 0)
    limited = spec.get("limited")
    if limited is not None:
        limited.setdefault("nominalConcurrencyShares", 30)
        limited.setdefault("lendablePercent", 0)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for field, value in QUEUING.items():
                if not queuing.get(field):
                    queuing[field] = value
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    kind, exempt, limited = spec.get("type"), spec.get("exempt"), spec.get("limited")
    if kind not in TYPES:
        out.append(fields.not_supported("spec.type", kind or "", TYPES))
    elif kind == "Exempt":
        if limited is not None:
            why = "must be nil if the type is not Limited"
            out.append(fields.forbidden("spec.limited", why))
        _check_shares(exempt or {}, "spec.exempt", out)
    else:
        if exempt is not None:
            why = "must be nil if the type is Limited"
            out.append(fields.forbidden("spec.exempt", why))
        if limited is None:
            why = "must not be empty when type is Limited"
            out.append(fields.required("spec.limited", why))
        else:
            _check_limited(limited, "spec.limited", out)
    return out


def _check_shares(config: Object, path: str, out: list[Cause]) -> None:
    shares = config.get("nominalConcurrencyShares")
    check_nonnegative(shares, f"{path}.nominalConcurrencyShares", out)
    percent = config.get("lendablePercent") or 0
    if not 0 <= percent <= 100:
        why = "must be between 0 and 100, inclusive"
        out.append(fields.invalid(f"{path}.lendablePercent", percent, why))


def _check_limited(limited: Object, path: str, out: list[Cause]) -> None:
    _check_shares(limited, path, out)
    response = limited.get("limitResponse") or {}
    kind, queuing, where = response.get("type"), response.get("queuing"), f"{path}.limitResponse"
    if kind not in RESPONSES:
        out.append(fields.not_supported(f"{where}.type", kind or "", RESPONSES))
    elif kind == "Reject" and queuing is not None:
        why = "must be nil if limited.limitResponse.type is not Limited"
        out.append(fields.forbidden(f"{where}.queuing", why))
    elif kind == "Queue" and queuing is None:
        why = "must not be empty if limited.limitResponse.type is Limited"
        out.append(fields.required(f"{where}.queuing", why))
    for field in QUEUING if kind == "Queue" and queuing else ():
        value = queuing.get(field) or 0 if queuing else 0
        if value <= 0:
            out.append(fields.invalid(f"{where}.queuing.{field}", value, "must be positive"))


def cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    return [
        name(obj),
        spec.get("type") or "",
        limited.get("nominalConcurrencyShares", NONE),
        *(queuing.get(field, NONE) for field in QUEUING),
        age(obj, now_s),
    ]


KIND = Kind(
    group="flowcontrol.apiserver.k8s.io",
    version="v1",
    kind="PriorityLevelConfiguration",
    storage="prioritylevelconfigurations",
    default=default,
    validate=validate,
    columns=(
        NAME,
        Column("Type", "string", "Exempt or Limited."),
        Column("NominalConcurrencyShares", "string", "Its part of the seats."),
        Column("Queues", "string", "The number of queues."),
        Column("HandSize", "string", "Queues a flow may use."),
        Column("QueueLengthLimit", "string", "Requests a queue may hold."),
        AGE,
    ),
    cells=cells,
    status_keeps=STATUS_ALONE,
)
