"""CEL expressions in admission's kinds, compiled when they are written, in upstream's words.

The engine is imported with the first expression that is checked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import fields
from ...errors import Cause, Object

if TYPE_CHECKING:
    from ...cel import Environment
    from ...cel.types import Type

MAX_VARIABLES = 100
"""Variables of a policy: each is compiled with all before it in sight."""
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_WORDS = frozenset(
    {
        "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
        "loop", "package", "namespace", "return", "var", "void", "while", "true", "false", "null",
    }
)  # fmt: skip


def check_expression(
    text: Any, path: str, base: Environment, out: list[Cause], results: Sequence[Type] | None = None
) -> None:
    """Does an expression compile, and give a bool (or one of `results`)?"""
    from ...cel.admission import BOOLEAN, Unfit, fit

    try:
        fit(text, base, BOOLEAN if results is None else results)
    except Unfit as error:
        out.append(fields.invalid(path, text, str(error)))


def check_variables(
    variables: Sequence[Object], base: Environment, path: str, out: list[Cause]
) -> Environment:
    """The environment of what may use the variables."""
    from ...cel.admission import Unfit, variable_types

    if len(variables) > MAX_VARIABLES:
        out.append(fields.too_many(path, len(variables), MAX_VARIABLES))
        variables = variables[:MAX_VARIABLES]
    environment, programs = variable_types(base, variables)
    seen: set[str] = set()
    for position, item in enumerate(variables):
        where, name, text = f"{path}[{position}]", item.get("name"), item.get("expression")
        if not name:
            out.append(fields.required(f"{where}.name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(name) or name in _WORDS:
            why = "name is not a valid CEL identifier"
            out.append(fields.invalid(f"{where}.name", name, why))
        elif name in seen:
            out.append(fields.duplicate(f"{where}.name", name))
        seen.add(name or "")
        if not (text or "").strip():
            why = "expression is not specified"
            out.append(fields.required(f"{where}.expression", why))
        elif isinstance(problem := programs.get(name or ""), Unfit):
            out.append(fields.invalid(f"{where}.expression", text, str(problem)))
    return environment


def environment_of(spec: Object, *, authorizer: bool = True) -> Environment:
    """What a policy's expressions may refer to, variables aside."""
    from ...cel.admission import environment

    return environment(
        params=spec.get("paramKind") is not None,
        authorizer=authorizer,
        patches=bool(spec.get("mutations")),
    )


def quiet_environment(spec: Object, full: Environment) -> Environment:
    """The same without the authorizer, but with the variables (messages ask no permissions)."""
    from ...cel.admission import VARIABLES

    return environment_of(spec, authorizer=False).extend(
        {VARIABLES: full.variables[VARIABLES]} if VARIABLES in full.variables else {}
    )
