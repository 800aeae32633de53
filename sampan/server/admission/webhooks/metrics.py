"""What webhooks do, counted under upstream's names (apiserver/pkg/admission/metrics)."""

from __future__ import annotations

from ...series import Labels, Series

BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0)
CONDITION_BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
MOST_CODE = 600
"""Codes a webhook makes up must not grow the number of series."""
PREFIX = "apiserver_admission_"


class WebhookMetrics:
    """Counters by labels: one series per webhook, operation and outcome."""

    def __init__(self) -> None:
        self._series = Series()

    def exposition(self) -> str:
        """As Prometheus text."""
        return self._series.exposition()

    def _count(self, name: str, labels: Labels) -> None:
        self._series.count(PREFIX + name, labels)

    def observe(
        self, name: str, kind: str, operation: str, outcome: tuple[bool, int, float]
    ) -> None:
        """One call: was the request refused, the HTTP code, the seconds."""
        rejected, code, seconds = outcome
        shared = (("name", name), ("type", _step(kind)), ("operation", operation))
        refused = ("rejected", str(rejected).lower())
        status = ("code", str(min(code, MOST_CODE)))
        self._count("webhook_request_total", (*shared, status, refused))
        metric = f"{PREFIX}webhook_admission_duration_seconds"
        self._series.histogram(metric, (*shared, refused), BUCKETS_S).add(seconds)

    def reject(self, name: str, kind: str, operation: str, error: tuple[str, int]) -> None:
        """A refusal: the kind of error, and the code the webhook gave."""
        what, code = error
        labels = (
            ("name", name),
            ("type", _step(kind)),
            ("operation", operation),
            ("error_type", what),
            ("rejection_code", str(min(code, MOST_CODE))),
        )
        self._count("webhook_rejection_count", labels)

    def fail_open(self, name: str, kind: str) -> None:
        labels = (("name", name), ("type", _step(kind)))
        self._count("webhook_fail_open_count", labels)

    def exclude(self, what: Labels) -> None:
        """A request that match conditions kept away from a webhook or policy; `what` is a
        `condition`."""
        self._count("match_condition_exclusions_total", what)

    def condition_error(self, what: Labels) -> None:
        """Match conditions that could not be evaluated."""
        self._count("match_condition_evaluation_errors_total", what)

    def conditions_took(self, what: Labels, seconds: float) -> None:
        metric = f"{PREFIX}match_condition_evaluation_seconds"
        self._series.histogram(metric, what, CONDITION_BUCKETS_S).add(seconds)


def _step(kind: str) -> str:
    """What upstream calls a kind of webhook, everywhere but in match conditions."""
    return "validating" if kind == "validate" else kind


def condition(name: str, kind: str, step: str, operation: str) -> Labels:
    """The labels of match conditions of a `kind` ("webhook", "policy")."""
    return (("name", name), ("kind", kind), ("type", step), ("operation", operation))
