"""A policy's expressions, compiled. An expression that does not compile is kept as its error, and
counts as one that fails whenever it would be evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import NamedTuple

from msgspec import Struct

from sampan.api.cel import Environment, Program
from sampan.api.cel.admission import (
    BOOLEAN,
    TEXT,
    TEXT_OR_NULL,
    Unfit,
    environment,
    fit,
    variable_types,
    with_variables,
)
from sampan.api.cel.patches import APPLIED, OPERATIONS
from sampan.api.cel.types import Type
from sampan.api.errors import Object

Observe = Callable[[float], None]
"""Told the seconds that each compilation took."""


class Expression(NamedTuple):
    """An expression and its program, or why there is none."""

    text: str
    program: Program | Unfit


class Programs(Struct, frozen=True):
    """Everything of a policy that is evaluated."""

    conditions: tuple[Expression, ...]
    variables: Mapping[str, Expression]
    validations: tuple[tuple[Expression, Expression | None], ...]
    """(expression, messageExpression)."""
    annotations: tuple[Expression, ...]
    mutations: tuple[Expression, ...]


def programs_of(spec: Object, observe: Observe) -> Programs:
    """Compile a policy's expressions. Raises nothing."""
    make = partial(compiled, observe=observe)
    params, mutations = spec.get("paramKind") is not None, spec.get("mutations") or ()
    base = environment(params=params, authorizer=True, patches=bool(mutations))
    raw = spec.get("variables") or ()
    full, variables = variable_types(base, raw)
    types = {name: item.type for name, item in variables.items() if isinstance(item, Program)}
    quiet = with_variables(environment(params=params, authorizer=False), types)
    texts = {str(item.get("name") or ""): str(item.get("expression") or "") for item in raw}
    return Programs(
        conditions=tuple(
            make(item.get("expression"), base) for item in spec.get("matchConditions") or ()
        ),
        variables={name: Expression(texts[name], item) for name, item in variables.items()},
        validations=tuple(
            (
                make(item.get("expression"), full),
                make(item.get("messageExpression"), quiet, TEXT)
                if item.get("messageExpression")
                else None,
            )
            for item in spec.get("validations") or ()
        ),
        annotations=tuple(
            make(item.get("valueExpression"), full, TEXT_OR_NULL)
            for item in spec.get("auditAnnotations") or ()
        ),
        mutations=tuple(_mutation(item, full, observe) for item in mutations),
    )


def _mutation(item: Object, base: Environment, observe: Observe) -> Expression:
    if item.get("patchType") == "JSONPatch":
        raw = item.get("jsonPatch") or {}
        return compiled(raw.get("expression"), base, (OPERATIONS,), observe=observe)
    raw = item.get("applyConfiguration") or {}
    return compiled(raw.get("expression"), base, (APPLIED,), observe=observe)


def compiled(
    text: str | None,
    base: Environment,
    results: Sequence[Type] = BOOLEAN,
    *,
    observe: Observe,
) -> Expression:
    source, began = text or "", perf_counter()
    try:
        return Expression(source, fit(source, base, results))
    except Unfit as error:
        return Expression(source, error)
    finally:
        observe(perf_counter() - began)
