"""ServiceCIDR (networking.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import STATUS_ALONE, Column, Kind
from ...errors import Cause, Object
from ..addresses import check_canonical_cidr, dual_stack
from ..printing import AGE, NAME, age, name


def default(obj: Object) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    ranges = obj["spec"].get("cidrs") or []
    if not ranges:
        out.append(fields.required("spec.cidrs", "at least one CIDR required"))
        return out
    if len(ranges) > 2:
        why = "may only hold up to 2 values"
        out.append(fields.invalid("spec.cidrs", obj["spec"], why))
        return out
    if len(ranges) == 2 and not dual_stack([item.partition("/")[0] for item in ranges]):
        why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and " \
              "2001:db8::/64"  # fmt: skip
        out.append(fields.invalid("spec.cidrs", obj["spec"], why))
        return out
    for position, text in enumerate(ranges):
        check_canonical_cidr(text, f"spec.cidrs[{position}]", out)
    if old is not None:
        _check_update(ranges, (old.get("spec") or {}).get("cidrs") or [], out)
    return out


def _check_update(ranges: list[str], before: list[str], out: list[Cause]) -> None:
    """A second family may be added; nothing else changes."""
    if len(ranges) != len(before) and (len(before), len(ranges)) != (1, 2):
        out.append(fields.immutable("spec.cidrs", ranges))
        return
    for position, (text, was) in enumerate(zip(ranges, before, strict=False)):
        if text != was:
            out.append(fields.immutable(f"spec.cidrs[{position}]", text))


def cells(obj: Object, now_s: float) -> list[Any]:
    ranges = (obj.get("spec") or {}).get("cidrs") or ()
    return [name(obj), ",".join(ranges), age(obj, now_s)]


KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="ServiceCIDR",
    storage="servicecidrs",
    generation=False,
    status_keeps=STATUS_ALONE,
    default=default,
    validate=validate,
    columns=(NAME, Column("CIDRs", "string", "Ranges of services' addresses."), AGE),
    cells=cells,
)
