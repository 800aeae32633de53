"""matchConditions of webhooks: CEL over the request, compiled at the first call.

One condition that is false decides; else one that fails refuses the write (failurePolicy Fail) or
leaves the webhook out (Ignore). Bound: the conditions of a webhook share one evaluation budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.api.errors import Object, forbidden

from ...exchange import Write
from .source import Hook

if TYPE_CHECKING:
    from ...app import Server

VARIABLES = ("object", "oldObject", "request", "authorizer")


def meets_conditions(server: Server, hook: Hook, request: Object, write: Write) -> bool:
    """Are all conditions true? Raises Forbidden when one cannot be evaluated and the policy is
    to fail."""
    from sampan.api.cel import MATCH_CONDITIONS_BUDGET, Budget, CompileError, EvaluationError

    budget = Budget(MATCH_CONDITIONS_BUDGET)
    values = {
        "object": request["object"],
        "oldObject": request["oldObject"],
        "request": {name: item for name, item in request.items() if name != "options"},
        "authorizer": None,
    }
    metrics = server.admission.hooks.metrics
    failed: list[str] = []
    for condition, program in _programs(hook):
        try:
            if isinstance(program, CompileError):
                raise EvaluationError(f"compilation error: {program}")
            if program.evaluate(values, budget) is not True:
                metrics.exclude(hook.name, hook.kind, write.operation)
                return False
        except EvaluationError as error:
            failed.append(f"expression '{condition['expression']}' resulted in error: {error}")
    if not failed:
        return True
    metrics.condition_error(hook.name, hook.kind, write.operation)
    if hook.ignore:
        return False
    text = failed[0] if len(failed) == 1 else f"[{', '.join(failed)}]"
    target = write.attributes.resource
    assert target is not None
    raise forbidden(target.group, target.plural, write.attributes.name, text)


def _programs(hook: Hook) -> Any:
    """The conditions with their programs (or why there is none), kept on the webhook."""
    if hook.matcher is None:
        from sampan.api.cel import CompileError, compile, kubernetes
        from sampan.api.cel.types import DYN

        environment = kubernetes().extend(dict.fromkeys(VARIABLES, DYN))
        programs: list[tuple[Object, Any]] = []
        for condition in hook.conditions:
            try:
                programs.append((condition, compile(condition["expression"], environment)))
            except CompileError as error:
                programs.append((condition, error))
        hook.matcher = programs
    return hook.matcher
