"""PriorityLevelConfiguration (flowcontrol.apiserver.k8s.io/v1)."""

from __future__ import annotations

from math import ceil, log2
from typing import Any

from ... import fields
from ...descriptor import STATUS_ALONE, Column, Kind
from ...errors import Cause, Object
from ..core.podspec.equality import same
from ..printing import AGE, NAME, NONE, age, name
from .mandatory import CATCH_ALL_LEVEL, check_conditions

QUEUING = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}
TYPES = ("Exempt", "Limited")
RESPONSES = ("Queue", "Reject")
MAX_QUEUES = 10_000_000
HASH_BITS = 60
"""Of a flow's hash, from which its queues are dealt."""
NOT_NEGATIVE = "if specified, must be a non-negative integer"


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
    spec, own_name = obj["spec"], obj["metadata"].get("name") or ""
    kind, exempt, limited = spec.get("type") or "", spec.get("exempt"), spec.get("limited")
    if (own_name == "exempt") != (kind == "Exempt"):
        why = "type must be 'Exempt' if and only if name is 'exempt'"
        out.append(fields.invalid("spec.type", kind, why))
    if kind not in TYPES:
        out.append(fields.not_supported("spec.type", kind, TYPES))
    elif kind == "Exempt":
        if limited is not None:
            why = "must be nil if the type is not Limited"
            out.append(fields.forbidden("spec.limited", why))
        if exempt is None:
            out.append(fields.required("spec.exempt", "must not be empty"))
        else:
            _check_shares(exempt, "spec.exempt", out)
    else:
        if exempt is not None:
            why = "must be nil if the type is Limited"
            out.append(fields.forbidden("spec.exempt", why))
        if limited is None:
            why = "must not be empty when type is Limited"
            out.append(fields.required("spec.limited", why))
        else:
            _check_limited(limited, "spec.limited", out)
    if own_name == "catch-all" and not same(spec, CATCH_ALL_LEVEL):
        why = f"spec of '{own_name}' must equal the fixed value"
        out.append(fields.invalid("spec", spec, why))
    check_conditions(obj, out)
    return out


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    check_conditions(obj, out)
    return out


def _check_shares(config: Object, path: str, out: list[Cause]) -> None:
    shares = config.get("nominalConcurrencyShares") or 0
    if shares < 0:
        why = "must be a non-negative integer"
        out.append(fields.invalid(f"{path}.nominalConcurrencyShares", shares, why))
    for field, most in (("lendablePercent", 100), ("borrowingLimitPercent", None)):
        value = config.get(field)
        if value is not None and (value < 0 or (most is not None and value > most)):
            why = f"must be between 0 and {most}, inclusive" if most else NOT_NEGATIVE
            out.append(fields.invalid(f"{path}.{field}", value, why))


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
    elif queuing is not None:
        _check_queuing(queuing, f"{where}.queuing", out)


def _check_queuing(queuing: Object, path: str, out: list[Cause]) -> None:
    length, queues, hand = (
        queuing.get(field) or 0 for field in ("queueLengthLimit", "queues", "handSize")
    )
    if length <= 0:
        out.append(fields.invalid(f"{path}.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        out.append(fields.invalid(f"{path}.queues", queues, "must be positive"))
    elif queues > MAX_QUEUES:
        why = f"must not be greater than {MAX_QUEUES}"
        out.append(fields.invalid(f"{path}.queues", queues, why))
    if hand <= 0:
        out.append(fields.invalid(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        why = f"should not be greater than queues ({queues})"
        out.append(fields.invalid(f"{path}.handSize", hand, why))
    elif hand > HASH_BITS or entropy_bits(queues, hand) > HASH_BITS:
        why = (
            f"required entropy bits of deckSize {queues} and handSize {hand} should not be "
            f"greater than {HASH_BITS}"
        )
        out.append(fields.invalid(f"{path}.handSize", hand, why))


def entropy_bits(deck: int, hand: int) -> int:
    """Bits of a hash that it takes to deal a hand of queues (apiserver's shufflesharding)."""
    return ceil(sum(log2(deck - dealt) for dealt in range(hand)))


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
    validate_status=validate_status,
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
