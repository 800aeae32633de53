"""A policy's expressions checked against the kinds it is about, for its status: what would fail for
every object of a kind is told to who wrote it. Warnings only; nothing is refused (KEP-3488)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import Object
from .admission import Unfit, environment, fit, variable_types
from .types import Type

MAX_KINDS = 10
"""Kinds checked per policy, as upstream."""
PREFIX = "compilation failed: "


class Known(NamedTuple):
    """A kind and its type."""

    label: str
    """As Go prints a GroupVersionKind: `apps/v1, Kind=Deployment`."""
    type: Type


def label_of(group: str, version: str, kind: str) -> str:
    return f"{group}/{version}, Kind={kind}"


def rules_of(spec: Object) -> list[tuple[str, str, str]]:
    """The (group, version, plural) that the rules name, without wildcards and subresources, in
    order, each once."""
    out: dict[tuple[str, str, str], None] = {}
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or (), rule.get("apiVersions") or ()
        if any("*" in item for item in (*groups, *versions)):
            continue
        for group in sorted(groups):
            for version in sorted(versions):
                for plural in sorted(rule.get("resources") or ()):
                    if "*" not in plural and "/" not in plural:
                        out[group, version, plural] = None
    return list(out)


def expression_warnings(spec: Object, kinds: Sequence[Known], params: Type | None) -> list[Object]:
    """`status.typeChecking.expressionWarnings`: validations and their messages, in order."""
    out: list[Object] = []
    for position, item in enumerate(spec.get("validations") or ()):
        for field in ("expression", "messageExpression"):
            text = item.get(field)
            warning = _warning(text, spec, kinds, params) if text else ""
            if warning:
                path = f"spec.validations[{position}].{field}"
                out.append({"fieldRef": path, "warning": warning})
    return out


def _warning(text: str, spec: Object, kinds: Sequence[Known], params: Type | None) -> str:
    base = environment(params=spec.get("paramKind") is not None, authorizer=True)
    found = []
    for kind in kinds:
        types = {"object": kind.type, "oldObject": kind.type}
        if params is not None:
            types["params"] = params
        full, _ = variable_types(base.extend(types), spec.get("variables") or ())
        try:
            fit(text, full, ())
        except Unfit as error:
            found.append(f"{kind.label}: {str(error).removeprefix(PREFIX)}\n")
    return "\n".join(found)
