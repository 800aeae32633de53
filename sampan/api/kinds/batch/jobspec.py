"""Job specs, of Jobs and of CronJobs' templates."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...errors import Cause, Object
from ...selectors import validate_label_selector
from ..core.podspec.template import default_template
from ..core.podspec.validate import check_template
from ..core.podspec.warnings import warn_template
from ..formats import check_domain_path, check_nonnegative
from .policies import check_failure_policy, check_success_policy

MODES = ("Indexed", "NonIndexed")
REPLACEMENTS = ("Failed", "TerminatingOrFailed")
MAX_PARALLELISM = 100_000
"""Of an Indexed job: the indexes must fit in its status."""
MAX_MANAGER = 63
MAX_FAILED_INDEXES = 100_000
MAX_FAILED_OF_MANY = 10_000
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
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        why = "when maxFailedIndexes is specified"
        out.append(fields.required(f"{path}.backoffLimitPerIndex", why))
    manager = spec.get("managedBy")
    if manager is not None:
        check_domain_path(manager, f"{path}.managedBy", out)
        if len(manager) > MAX_MANAGER:
            out.append(fields.too_long(f"{path}.managedBy", "", MAX_MANAGER))
    if spec.get("podFailurePolicy") is not None:
        check_failure_policy(spec, f"{path}.podFailurePolicy", out)
    if spec.get("successPolicy") is not None and spec.get("completionMode") == "Indexed":
        check_success_policy(spec, f"{path}.successPolicy", out)
    replacement = spec.get("podReplacementPolicy")
    # What failed is told by the policy: a pod that is still going has not failed yet (KEP-3939).
    allowed = REPLACEMENTS if spec.get("podFailurePolicy") is None else ("Failed",)
    if replacement is not None and replacement not in allowed:
        where = f"{path}.podReplacementPolicy"
        out.append(fields.not_supported(where, replacement, allowed))
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
        _check_failed_indexes(spec, path, out)
        return
    for field in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
        value: Any = spec.get(field)
        if value is not None:
            why = "requires indexed completion mode"
            out.append(fields.invalid(f"{path}.{field}", value, why))


def _check_failed_indexes(spec: Object, path: str, out: list[Cause]) -> None:
    completions, most = spec.get("completions"), spec.get("maxFailedIndexes")
    where = f"{path}.maxFailedIndexes"
    if most is not None and completions is not None and most > completions:
        out.append(fields.invalid(where, most, "must be less than or equal to completions"))
    if most is not None and most > MAX_FAILED_INDEXES:
        why = f"must be less than or equal to {MAX_FAILED_INDEXES}"
        out.append(fields.invalid(where, most, why))
    if (completions or 0) <= MANY_COMPLETIONS or spec.get("backoffLimitPerIndex") is None:
        return
    if most is None:
        why = f"must be specified when completions is above {MANY_COMPLETIONS}"
        out.append(fields.required(where, why))
    for field, limit in (
        ("parallelism", HIGH_PARALLELISM), ("maxFailedIndexes", MAX_FAILED_OF_MANY),
    ):  # fmt: skip
        value = spec.get(field)
        if value is not None and value > limit:
            why = (
                f"must be less than or equal to {limit} when completions are above "
                f"{MANY_COMPLETIONS} and used with backoff limit per index"
            )
            out.append(fields.invalid(f"{path}.{field}", value, why))


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
