"""The Common Expression Language as Kubernetes has it: parse, check, plan, evaluate. No I/O.

    environment = kubernetes().extend({"object": DYN, "limit": INT})
    program = compile("object.spec.replicas <= limit", environment)
    program.evaluate({"object": deployment, "limit": 5}, Budget())

Programs are compiled once and kept by whoever owns the expression. Nothing here is imported unless
a cluster has expressions (policies, match conditions, custom resources with rules).
"""

from .environment import Environment, declared, kubernetes
from .errors import CompileError, CostExceeded, EvaluationError
from .program import (
    MATCH_CONDITIONS_BUDGET,
    PER_CALL_LIMIT,
    RUNTIME_BUDGET,
    Budget,
    Program,
    budget_of,
    compile,
)

__all__ = [
    "MATCH_CONDITIONS_BUDGET",
    "PER_CALL_LIMIT",
    "RUNTIME_BUDGET",
    "Budget",
    "CompileError",
    "CostExceeded",
    "Environment",
    "EvaluationError",
    "Program",
    "budget_of",
    "compile",
    "declared",
    "kubernetes",
]
