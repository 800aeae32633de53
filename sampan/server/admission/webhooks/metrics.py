"""What webhooks do, counted under upstream's names (apiserver/pkg/admission/metrics)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0)
MOST_CODE = 600
"""Codes a webhook makes up must not grow the number of series."""
PREFIX = "apiserver_admission_"

Labels = tuple[tuple[str, str], ...]


class WebhookMetrics:
    """Counters by labels: one series per webhook, operation and outcome."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Labels]] = Counter()
        self._durations: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(
        self, name: str, kind: str, operation: str, outcome: tuple[bool, int, float]
    ) -> None:
        """One call: was the request refused, the HTTP code, the seconds."""
        rejected, code, seconds = outcome
        shared = (("name", name), ("type", kind), ("operation", operation))
        refused = ("rejected", str(rejected).lower())
        status = ("code", str(min(code, MOST_CODE)))
        self._counts["webhook_request_total", (*shared, status, refused)] += 1
        counts, total = self._durations.setdefault(
            (*shared, refused), ([0] * (len(BUCKETS_S) + 1), [0.0])
        )
        counts[bisect_left(BUCKETS_S, seconds)] += 1
        total[0] += seconds

    def reject(self, name: str, kind: str, operation: str, error: tuple[str, int]) -> None:
        """A refusal: the kind of error, and the code the webhook gave."""
        what, code = error
        labels = (
            ("name", name),
            ("type", "validating" if kind == "validate" else kind),
            ("operation", operation),
            ("error_type", what),
            ("rejection_code", str(min(code, MOST_CODE))),
        )
        self._counts["webhook_rejection_count", labels] += 1

    def fail_open(self, name: str, kind: str) -> None:
        labels = (("name", name), ("type", "validating" if kind == "validate" else kind))
        self._counts["webhook_fail_open_count", labels] += 1

    def exclude(self, name: str, kind: str, operation: str) -> None:
        """A request that match conditions kept away from a webhook."""
        self._counts["match_condition_exclusions_total", _condition(name, kind, operation)] += 1

    def condition_error(self, name: str, kind: str, operation: str) -> None:
        labels = _condition(name, kind, operation)
        self._counts["match_condition_evaluation_errors_total", labels] += 1

    def exposition(self) -> str:
        """As Prometheus text."""
        lines: list[str] = []
        for metric in sorted({metric for metric, _ in self._counts}):
            lines.append(f"# TYPE {PREFIX}{metric} counter")
            lines += [
                f"{PREFIX}{metric}{{{_text(labels)}}} {count}"
                for (other, labels), count in self._counts.items()
                if other == metric
            ]
        name = f"{PREFIX}webhook_admission_duration_seconds"
        if self._durations:
            lines.append(f"# TYPE {name} histogram")
        for labels, (counts, total) in self._durations.items():
            seen = 0
            for bound, count in zip((*BUCKETS_S, "+Inf"), counts, strict=True):
                seen += count
                lines.append(f'{name}_bucket{{{_text(labels)},le="{bound}"}} {seen}')
            lines.append(f"{name}_sum{{{_text(labels)}}} {round(total[0], 6)}")
            lines.append(f"{name}_count{{{_text(labels)}}} {seen}")
        return "".join(f"{line}\n" for line in lines)


def _condition(name: str, kind: str, operation: str) -> Labels:
    return (("name", name), ("kind", "webhook"), ("type", kind), ("operation", operation))


def _text(labels: Labels) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels)
