"""Job specs, of Jobs and of CronJobs' templates."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...errors import Cause, Object
from ...selectors import validate_label_selector
from ..core.podspec.template import default_template
from ..core.podspec.validate import check_template
from ..core.podspec.warnings import warn_template
from ..formats import check_nonnegative, check_qualified

MODES = ("Indexed", "NonIndexed")
REPLACEMENTS = ("Failed", "TerminatingOrFailed")
MAX_PARALLELISM = 100_000
"""Of an Indexed job: the indexes must fit in its status."""
MAX_RULES = 20
MANY_COMPLETIONS = 100_000
HIGH_PARALLELISM = 10_000
"""Beyond both, the failed indexes may not fit in the status."""
DEFAULT_BACKOFF = 6
UNLIMITED_BACKOFF = 2**31 - 1


def default_job_spec(spec: Object) -> None:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    if spec.get("backoffLimit") is None:
        per_index = spec.get("backoffLimitPerIndex") is not None
        spec["backoffLimit"] = UNLIMITED_BACKOFF if per_index else DEFAULT_BACKOFF
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    policy = spec.get("podFailurePolicy")
    if "podReplacementPolicy" not in spec:
        spec["podReplacementPolicy"] = "TerminatingOrFailed" if policy is None else "Failed"
    for rule in (policy or {}).get("rules") or ():
        for condition in rule.get("onPodConditions") or ():
            if not condition.get("status"):
                condition["status"] = "True"
    default_template(spec)


def check_job_spec(spec: Object, path: str, out: list[Cause]) -> None:
    for field in (
        "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit",
        "ttlSecondsAfterFinished", "backoffLimitPerIndex", "maxFailedIndexes",
    ):  # fmt: skip
        check_nonnegative(spec.get(field), f"{path}.{field}", out)
    _check_mode(spec, path, out)
    replacement = spec.get("podReplacementPolicy")
    if replacement is not None and replacement not in REPLACEMENTS:
        where = f"{path}.podReplacementPolicy"
        out.append(fields.not_supported(where, replacement, REPLACEMENTS))
    manager = spec.get("managedBy")
    if manager is not None:
        check_qualified(manager, f"{path}.managedBy", out)
    if spec.get("podFailurePolicy") is not None:
        _check_failure_policy(spec, f"{path}.podFailurePolicy", out)
    check_template(spec.get("template"), f"{path}.template", out)
    pod = (spec.get("template") or {}).get("spec") or {}
    where = f"{path}.template.spec.restartPolicy"
    policy = pod.get("restartPolicy")
    if policy == "Always":
        out.append(fields.required(where, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        out.append(fields.not_supported(where, policy or "", ("OnFailure", "Never")))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        why = 'only "Never" is supported when podFailurePolicy is specified'
        out.append(fields.invalid(where, policy, why))


def _check_mode(spec: Object, path: str, out: list[Cause]) -> None:
    mode = spec.get("completionMode")
    if mode not in MODES:
        out.append(fields.not_supported(f"{path}.completionMode", mode or "", MODES))
    if mode == "Indexed":
        if spec.get("completions") is None:
            why = "when completion mode is Indexed"
            out.append(fields.required(f"{path}.completions", why))
        parallelism = spec.get("parallelism") or 0
        if parallelism > MAX_PARALLELISM:
            why = f"must be less than or equal to {MAX_PARALLELISM} when completion mode is Indexed"
            out.append(fields.invalid(f"{path}.parallelism", parallelism, why))
        return
    for field in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
        value: Any = spec.get(field)
        if value is not None:
            why = "requires indexed completion mode"
            out.append(fields.invalid(f"{path}.{field}", value, why))


def _check_failure_policy(spec: Object, path: str, out: list[Cause]) -> None:
    rules = spec["podFailurePolicy"].get("rules") or ()
    if len(rules) > MAX_RULES:
        out.append(fields.too_many(f"{path}.rules", len(rules), MAX_RULES))
    for position, rule in enumerate(rules):
        where = f"{path}.rules[{position}]"
        action = rule.get("action")
        allowed = ("Count", "FailIndex", "FailJob", "Ignore")
        if not action:
            out.append(fields.required(f"{where}.action", f"valid values: {_quoted(allowed)}"))
        elif action not in allowed:
            out.append(fields.not_supported(f"{where}.action", action, allowed))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None and conditions:
            why = "specifying both OnExitCodes and OnPodConditions is not supported"
            out.append(fields.invalid(where, "field.Omitted", why))
        elif codes is None and not conditions:
            why = "specifying one of OnExitCodes and OnPodConditions is required"
            out.append(fields.invalid(where, "field.Omitted", why))


def _quoted(words: tuple[str, ...]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def warn_job_spec(spec: Object, path: str) -> list[str]:
    """Warnings about the spec of a Job or of a CronJob's template."""
    out = []
    if (
        spec.get("completionMode") == "Indexed"
        and (spec.get("completions") or 0) > MANY_COMPLETIONS
        and (spec.get("parallelism") or 0) > HIGH_PARALLELISM
    ):
        out.append(
            f"{path}: In Indexed Jobs with a number of completions higher than 10^5 and a "
            "parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes "
            "when a big number of indexes fail"
        )
    return out + warn_template(spec, f"{path}.template")


def check_selector(selector: Object | None, path: str, out: list[Cause]) -> None:
    if selector is None:
        out.append(fields.required(path))
    else:
        out += validate_label_selector(selector, path)
