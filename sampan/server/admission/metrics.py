"""What admission counts, under upstream's names: steps and plugins (apiserver/pkg/admission/
metrics), policies (plugin/policy/*/metrics), expressions (apiserver/pkg/cel/metrics) and pod
security (pod-security-admission/metrics).

Memory: one series per plugin, operation and outcome, and one per policy and binding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from ..series import DEFAULT_BUCKETS_S, Histogram, Series

BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
CHECK_BUCKETS_S = (0.0000005, 0.001, 0.01, 0.1, 1.0)
ADMIT, VALIDATE = "admit", "validate"
COMPILATION = "compilation"
NO_BUDGET = "validation failed due to running out of cost budget"


class Timing:
    """The durations of one plugin (or a whole step) for one operation, by outcome."""

    __slots__ = ("passed", "refused")

    def __init__(self, passed: Histogram, refused: Histogram) -> None:
        self.passed = passed
        self.refused = refused


class AdmissionMetrics:
    """The metrics of one server's admission."""

    def __init__(self) -> None:
        self.series = Series()
        self.compilations = self._expressions("compilation")
        self.evaluations = self._expressions("evaluation")

    def _expressions(self, what: str) -> Histogram:
        name = f"apiserver_cel_{what}_duration_seconds"
        return self.series.histogram(name, (), DEFAULT_BUCKETS_S)

    def exposition(self) -> str:
        return self.series.exposition()

    def step(self, kind: str, operation: str) -> Timing:
        """Of a whole pass ("admit", "validate")."""
        return self._timing("apiserver_admission_step_admission_duration_seconds", (), kind,
                            operation)  # fmt: skip

    def plugin(self, name: str, kind: str, operation: str) -> Timing:
        """Of one plugin in a pass."""
        metric = "apiserver_admission_controller_admission_duration_seconds"
        return self._timing(metric, (("name", name),), kind, operation)

    def _timing(
        self, metric: str, labels: tuple[tuple[str, str], ...], kind: str, operation: str
    ) -> Timing:
        shared = (*labels, ("type", kind), ("operation", operation))
        passed, refused = (
            self.series.histogram(metric, (*shared, ("rejected", value)), BUCKETS_S)
            for value in ("false", "true")
        )
        return Timing(passed, refused)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Time the evaluation of an expression."""
        began = perf_counter()
        try:
            yield
        finally:
            self.evaluations.add(perf_counter() - began)

    def check(self, names: tuple[str, str], problem: str, action: str, seconds: float) -> None:
        """What came of a validation of a ValidatingAdmissionPolicy: (policy, binding), the
        message of what did not hold, and what was done ("deny", "audit", "warn", "allow")."""
        self._check("validating", names, problem, (("enforcement_action", action),), seconds)

    def mutation(self, names: tuple[str, str], problem: str, seconds: float) -> None:
        """What came of a mutation of a MutatingAdmissionPolicy."""
        self._check("mutating", names, problem, (), seconds)

    def _check(
        self,
        kind: str,
        names: tuple[str, str],
        problem: str,
        more: tuple[tuple[str, str], ...],
        seconds: float,
    ) -> None:
        policy, binding = names
        labels = (
            ("policy", policy), ("policy_binding", binding), ("error_type", error_type(problem)),
            *more,
        )  # fmt: skip
        prefix = f"apiserver_{kind}_admission_policy_check"
        self.series.count(f"{prefix}_total", labels)
        self.series.histogram(f"{prefix}_duration_seconds", labels, CHECK_BUCKETS_S).add(seconds)


def error_type(problem: str) -> str:
    """Upstream's word for what a policy's check met; whatever is no compilation and no budget is
    invalid, a denial included."""
    if not problem:
        return "no_error"
    if problem.startswith(COMPILATION):
        return "compile_error"
    return "out_of_budget" if problem.startswith(NO_BUDGET) else "invalid_error"
