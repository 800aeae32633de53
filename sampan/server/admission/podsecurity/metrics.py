"""What pod security counts, under upstream's names (pod-security-admission/metrics)."""

from __future__ import annotations

from ...exchange import Write
from ...series import Labels, Series
from .checks import NEWEST
from .levels import LATEST, PRIVILEGED, Standard

KINDS = {"pods": "pod", "namespaces": "namespace"}


def count(series: Series, write: Write, standard: Standard, mode: str, *, allowed: bool) -> None:
    """One evaluation in a mode ("enforce", "audit", "warn")."""
    if standard.version == LATEST or standard.level == PRIVILEGED:
        version = "latest"
    else:
        # Users choose versions, so there is a bound.
        version = f"v1.{standard.version}" if standard.version <= NEWEST else "future"
    series.count(
        "pod_security_evaluations_total",
        (
            ("decision", "allow" if allowed else "deny"), ("policy_level", standard.level),
            ("policy_version", version), ("mode", mode), *_request(write),
        ),
    )  # fmt: skip


def count_exemption(series: Series, write: Write) -> None:
    """A request that the configuration exempts."""
    series.count("pod_security_exemptions_total", _request(write))


def count_error(series: Series, write: Write) -> None:
    """Labels of a namespace that could not be read; the strictest level was used instead."""
    series.count("pod_security_errors_total", (("fatal", "false"), *_request(write)))


def _request(write: Write) -> Labels:
    target = write.attributes.resource
    plural = "" if target is None else target.plural
    return (
        ("request_operation", write.operation.lower()),
        ("resource", KINDS.get(plural, "controller")),
        ("subresource", write.attributes.subresource),
    )
