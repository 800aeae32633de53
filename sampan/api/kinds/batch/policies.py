"""A job's podFailurePolicy and successPolicy, and the indexes they and its status name."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...errors import Cause, Object
from ..formats import DIGITS_64, check_nonnegative, check_qualified

MAX_RULES = 20
MAX_PATTERNS = 20
MAX_EXIT_CODES = 255
MAX_INDEXES_LENGTH = 64 * 1024
ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
OPERATORS = ("In", "NotIn")
STATUSES = ("False", "True", "Unknown")
HALF = "specifying both OnExitCodes and OnPodConditions is not supported"
NEITHER = "specifying one of OnExitCodes and OnPodConditions is required"


def check_failure_policy(spec: Object, path: str, out: list[Cause]) -> None:
    rules = spec["podFailurePolicy"].get("rules") or ()
    if len(rules) > MAX_RULES:
        out.append(fields.too_many(f"{path}.rules", len(rules), MAX_RULES))
    pod = (spec.get("template") or {}).get("spec") or {}
    names = {
        container.get("name")
        for kind in ("containers", "initContainers")
        for container in pod.get(kind) or ()
    }
    for position, rule in enumerate(rules):
        where = f"{path}.rules[{position}]"
        action = rule.get("action")
        if not action:
            out.append(fields.required(f"{where}.action", f"valid values: {_listed(ACTIONS)}"))
        elif action == "FailIndex":
            if spec.get("backoffLimitPerIndex") is None:
                why = "requires the backoffLimitPerIndex to be set"
                out.append(fields.invalid(f"{where}.action", action, why))
        elif action not in ACTIONS:
            out.append(fields.not_supported(f"{where}.action", action, ACTIONS))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None:
            _check_exit_codes(codes, f"{where}.onExitCodes", names, out)
        if conditions:
            _check_conditions(conditions, f"{where}.onPodConditions", out)
        if codes is not None and conditions:
            out.append(fields.unsuitable(where, HALF))
        elif codes is None and not conditions:
            out.append(fields.unsuitable(where, NEITHER))


def _check_exit_codes(codes: Object, path: str, names: set[Any], out: list[Cause]) -> None:
    operator, where = codes.get("operator"), f"{path}.values"
    if not operator:
        out.append(fields.required(f"{path}.operator", f"valid values: {_listed(OPERATORS)}"))
    elif operator not in OPERATORS:
        out.append(fields.not_supported(f"{path}.operator", operator, OPERATORS))
    container = codes.get("containerName")
    if container is not None and container not in names:
        why = "must be one of the container or initContainer names in the pod template"
        out.append(fields.invalid(f"{path}.containerName", container, why))
    values = codes.get("values") or []
    if not values:
        out.append(fields.invalid(where, values, "at least one value is required"))
    elif len(values) > MAX_EXIT_CODES:
        out.append(fields.too_many(where, len(values), MAX_EXIT_CODES))
    seen: set[int] = set()
    for position, value in enumerate(values):
        if operator == "In" and value == 0:
            why = "must not be 0 for the In operator"
            out.append(fields.invalid(f"{where}[{position}]", value, why))
        if value in seen:
            out.append(fields.duplicate(f"{where}[{position}]", value))
        seen.add(value)
    if list(values) != sorted(values):
        out.append(fields.invalid(where, values, "must be ordered"))


def _check_conditions(conditions: list[Object], path: str, out: list[Cause]) -> None:
    if len(conditions) > MAX_PATTERNS:
        out.append(fields.too_many(path, len(conditions), MAX_PATTERNS))
    for position, item in enumerate(conditions):
        where, status = f"{path}[{position}]", item.get("status")
        check_qualified(item.get("type") or "", f"{where}.type", out)
        if not status:
            out.append(fields.required(f"{where}.status", f"valid values: {_listed(STATUSES)}"))
        elif status not in STATUSES:
            out.append(fields.not_supported(f"{where}.status", status, STATUSES))


def _listed(words: tuple[str, ...]) -> str:
    """As Go prints a quoted list."""
    return "[" + " ".join(f'"{word}"' for word in words) + "]"


def check_success_policy(spec: Object, path: str, out: list[Cause]) -> None:
    """Of an Indexed job; others may have none."""
    rules, completions = spec["successPolicy"].get("rules") or (), spec.get("completions") or 0
    if not rules:
        why = "at least one rules must be specified when the successPolicy is specified"
        out.append(fields.required(f"{path}.rules", why))
    elif len(rules) > MAX_RULES:
        out.append(fields.too_many(f"{path}.rules", len(rules), MAX_RULES))
    for position, rule in enumerate(rules):
        where = f"{path}.rules[{position}]"
        count, indexes, total = rule.get("succeededCount"), rule.get("succeededIndexes"), 0
        if count is None and indexes is None:
            why = "at least one of succeededCount or succeededIndexes must be specified"
            out.append(fields.required(where, why))
        if indexes is not None:
            place = f"{where}.succeededIndexes"
            if len(indexes) > MAX_INDEXES_LENGTH:
                out.append(fields.too_long(place, "", MAX_INDEXES_LENGTH))
            total, problem = read_indexes(indexes, completions)
            if problem:
                why = f"error parsing succeededIndexes: {problem}"
                out.append(fields.invalid(place, indexes, why))
        if count is not None:
            place = f"{where}.succeededCount"
            check_nonnegative(count, place, out)
            for limit, what, counts in (
                (completions, "completions", True),
                (total, "indexes in the specified succeededIndexes field", indexes is not None),
            ):
                if counts and count > limit:
                    number = "specified completions" if what == "completions" else what
                    why = f"must be less than or equal to {limit} (the number of {number})"
                    out.append(fields.invalid(place, count, why))


def read_indexes(text: str, completions: int) -> tuple[int, str]:
    """("1,3-5" -> how many they are, what is wrong with them: "" if nothing)."""
    total, last = 0, -1
    for part in text.split(",") if text else ():
        interval, problem = _interval(part, completions)
        if not problem and last >= interval[0]:
            problem = f"non-increasing order, previous: {last}, current: {interval[0]}"
        if problem:
            return 0, problem
        total += interval[1] - interval[0] + 1
        last = interval[1]
    return total, ""


def shared_index(left: str, right: str, completions: int) -> int | None:
    """The first index that two texts such as "1,3-5" share. What cannot be read shares none."""
    found = [
        [bounds for bounds, problem in (_interval(part, completions) for part in text.split(","))
         if not problem]
        for text in (left, right)
    ]  # fmt: skip
    mine, yours = (iter(item) for item in found)
    one, other = next(mine, None), next(yours, None)
    while one is not None and other is not None:
        if one[0] <= other[1] and other[0] <= one[1]:
            return max(one[0], other[0])
        if one[0] <= other[0]:
            one = next(mine, None)
        else:
            other = next(yours, None)
    return None


def _interval(text: str, completions: int) -> tuple[tuple[int, int], str]:
    parts, none = text.split("-"), (0, 0)
    if len(parts) > 2:
        return none, (
            f"the fragment {fields.quote(text)} violates the requirement that an index interval "
            "can have at most two parts separated by '-'"
        )
    bounds = []
    for part in parts:
        if not part.isascii() or not part.isdigit() or len(part.lstrip("0")) >= DIGITS_64:
            return none, f"cannot convert string to integer for index: {fields.quote(part)}"
        if int(part) >= completions:
            return none, f"too large index: {fields.quote(part)}"
        bounds.append(int(part))
    if len(bounds) == 2 and bounds[0] >= bounds[1]:
        return none, f"non-increasing order, previous: {bounds[0]}, current: {bounds[1]}"
    return (bounds[0], bounds[-1]), ""
