"""What a policy's expressions see of a write: variables, and how they may ask for permissions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sampan.api.cel import (
    MATCH_CONDITIONS_BUDGET,
    Budget,
    CostExceeded,
    EvaluationError,
    budget_of,
)
from sampan.api.cel.admission import NAMESPACE, REQUEST_RESOURCE, VARIABLES, Unfit
from sampan.api.cel.library.authorization import Authorizer, Question, ResourceCheck
from sampan.api.cel.times import parse_timestamp
from sampan.api.cel.types import TIMESTAMP, ObjectType, Type
from sampan.api.cel.values import Fields
from sampan.api.errors import Object, aggregate
from sampan.api.principals import AUTHENTICATED
from sampan.api.resources import resource

from ...exchange import User, Write
from ...series import Labels
from ...turns import at_home, in_turns
from .programs import Expression, Programs

if TYPE_CHECKING:
    from ...app import Server

OUT_OF_BUDGET = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)
ACCOUNT_PREFIX = "system:serviceaccount:"


class Failed(Exception):
    """An evaluation that gave no value; `str` is upstream's message."""


class OutOfBudget(Failed):
    """Nothing more is evaluated."""

    def __init__(self) -> None:
        super().__init__(OUT_OF_BUDGET)


def values_of(server: Server, write: Write, request: Object) -> dict[str, Any]:
    """The variables that every expression about a write may use. `request` is the
    AdmissionRequest with both objects."""
    ask = partial(_ask, server, write.attributes.user)
    kind = request["requestResource"]
    own = Question(
        "",
        group=kind["group"],
        resource=kind["resource"],
        subresource=request.get("subResource") or "",
        namespace=request.get("namespace") or "",
        name=request.get("name") or "",
    )
    return {
        "object": request["object"],
        "oldObject": request["oldObject"],
        "request": {
            name: value
            for name, value in request.items()
            if name not in ("object", "oldObject", "uid") and value is not None
        },
        "authorizer": Authorizer(ask),
        REQUEST_RESOURCE: ResourceCheck(ask, own),
        "namespaceObject": namespace_of(server, write),
    }


def _ask(server: Server, user: User, question: Question) -> tuple[bool, str]:
    """The answer of the server's own authorizer; it looks into memory only."""
    return at_home(partial(_answer, server, user, question))


def _answer(server: Server, user: User, question: Question) -> tuple[bool, str]:
    if question.user is not None:
        namespace = question.user.removeprefix(ACCOUNT_PREFIX).partition(":")[0]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        user = User(question.user, (*groups, AUTHENTICATED))
    if question.path:
        return server.authorizer.allows_path(user, question.verb, question.path)
    target = (question.group, question.resource, question.subresource)
    return server.authorizer.allows(
        user, question.verb, target, question.namespace, question.name, fields=question.fields
    )


def namespace_of(server: Server, write: Write) -> Any:
    """The namespace of the write, as far as policies may see it; null for what is in none."""
    attributes = write.attributes
    target = attributes.resource
    if not attributes.namespace or target is None or not target.namespaced:
        return None
    found = server.find_object(resource("namespaces"), "", attributes.namespace)
    return None if found is None else shown(found, NAMESPACE)


def shown(value: Any, type_: Type) -> Any:
    """The parts of a value that its type has."""
    if isinstance(type_, ObjectType) and isinstance(value, dict):
        return {
            name: shown(value[field.key], field.type)
            for name, field in type_.fields.items()
            if field.key in value
        }
    if type_.name == "list" and isinstance(value, list):
        return [shown(item, type_.params[0]) for item in value]
    if type_ == TIMESTAMP and isinstance(value, str):
        return parse_timestamp(value)
    return value


def with_variables(values: Mapping[str, Any], programs: Programs, budget: Budget) -> dict[str, Any]:
    """The values with `variables`, each evaluated when first used."""
    whole = dict(values)
    if programs.variables:
        whole[VARIABLES] = Fields(
            {
                name: _variable(name, expression, whole, budget)
                for name, expression in programs.variables.items()
            }
        )
    return whole


def _variable(
    name: str, expression: Expression, values: Mapping[str, Any], budget: Budget
) -> Callable[[], Any]:
    def make() -> Any:
        if isinstance(expression.program, Unfit):
            raise EvaluationError(
                f'composited variable "{name}" fails to compile: {expression.program}'
            )
        try:
            return expression.program.evaluate(values, budget)
        except EvaluationError as error:
            raise EvaluationError(
                f'composited variable "{name}" fails to evaluate: {error}'
            ) from None

    return make


def evaluate(expression: Expression, values: Mapping[str, Any], budget: Budget) -> Any:
    """The value of an expression. Raises Failed and OutOfBudget."""
    if isinstance(expression.program, Unfit):
        raise Failed(f"compilation error: {expression.program}")
    try:
        return expression.program.evaluate(values, budget)
    except EvaluationError as error:
        raise Failed(f"expression '{expression.text}' resulted in error: {error}") from None
    except CostExceeded as error:
        if budget.left <= 0:
            raise OutOfBudget from None
        raise Failed(f"expression '{expression.text}' resulted in error: {error}") from None


async def meets_timed(
    server: Server, what: Labels, conditions: tuple[Expression, ...], values: Mapping[str, Any]
) -> bool:
    """`meets` of a webhook's or policy's match conditions, in a budget of their own, counted by
    `what`. Raises Failed."""
    if not conditions:
        return True
    metrics, began = server.admission.hooks.metrics, perf_counter()
    observe = server.admission.metrics.evaluations.add
    try:
        found = await in_turns(_meets, conditions, values, observe)
    except Failed:
        metrics.condition_error(what)
        raise
    finally:
        metrics.conditions_took(what, perf_counter() - began)
    if not found:
        metrics.exclude(what)
    return found


def _meets(
    conditions: tuple[Expression, ...],
    values: Mapping[str, Any],
    observe: Callable[[float], None],
) -> bool:
    return meets(conditions, values, budget_of(MATCH_CONDITIONS_BUDGET, observe))


def meets(conditions: tuple[Expression, ...], values: Mapping[str, Any], budget: Budget) -> bool:
    """Are all match conditions true? One that is false decides, else one that fails. Raises
    Failed."""
    failures = []
    for condition in conditions:
        try:
            if evaluate(condition, values, budget) is not True:
                return False
        except OutOfBudget:
            raise
        except Failed as error:
            failures.append(str(error))
    if failures:
        raise Failed(aggregate(failures))
    return True
