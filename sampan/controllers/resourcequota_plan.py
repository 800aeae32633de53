"""What a quota's status should say. Pure: objects and the time in, amounts out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.quota.amounts import Amounts, add, count, mask, read, subtract, texts
from sampan.api.quota.evaluators import Evaluator
from sampan.api.quota.scopes import requirements_of

Collections = Iterable[tuple[Evaluator, Iterable[Object]]]


class Status(Struct, frozen=True):
    """status.hard and status.used."""

    hard: Mapping[str, str]
    used: Mapping[str, str]


def hard_of(quota: Object) -> dict[str, str]:
    return texts(read((quota.get("spec") or {}).get("hard")))


def concerns(evaluator: Evaluator, quota: Object, obj: Object) -> bool:
    """Is the object one the quota's spec is about, whatever its status enforces by now?"""
    if not evaluator.matching((quota.get("spec") or {}).get("hard") or {}):
        return False
    return all(evaluator.meets(obj, scope) for scope in requirements_of(quota))


def recount(quota: Object, collections: Collections, now_s: float) -> Amounts:
    """What all objects together use of what the quota limits."""
    hard = (quota.get("spec") or {}).get("hard") or {}
    total: Amounts = {name: count(0) for name in hard}
    for evaluator, objects in collections:
        if evaluator.matching(hard):
            for obj in objects:
                if concerns(evaluator, quota, obj):
                    total = add(total, mask(evaluator.usage(obj, now_s), hard))
    return total


def unknown(quota: Object) -> set[str]:
    """What the quota limits and whose use is not known yet."""
    used = (quota.get("status") or {}).get("used") or {}
    return {name for name in hard_of(quota) if name not in used}


def plan(quota: Object, released: Amounts, counted: Amounts) -> Status | None:
    """The status to write, None when it is as it should be.

    What was `counted` is believed. Other usage goes on from where it is, less what was `released`:
    a charge for an object that is not stored yet must not be lost.
    """
    hard = hard_of(quota)
    status = quota.get("status") or {}
    before = read(status.get("used"))
    used = subtract(mask(before, hard), mask(released, hard)) | mask(counted, hard)
    used = {name: max(used.get(name, count(0)), count(0), key=lambda item: item.nanos)
            for name in hard}  # fmt: skip
    made = Status(hard, texts(used))
    if made.hard == (status.get("hard") or {}) and _same(made.used, status.get("used") or {}):
        return None
    return made


def _same(left: Mapping[str, str], right: Mapping[str, str]) -> bool:
    """Equal amounts, however written."""
    if left.keys() != right.keys():
        return False
    one, other = read(left), read(right)
    return all(one[name].nanos == other[name].nanos for name in left)
