"""Validation of when a container restarts by itself (KEP-5307)."""

from __future__ import annotations

from collections.abc import Sequence

from .... import fields
from ....errors import Cause, Object

POLICIES = ("Always", "Never", "OnFailure")
ACTIONS = ("Restart", "RestartAllContainers")
OPERATORS = ("In", "NotIn")
MAX_RULES = 20
MAX_EXIT_CODES = 255


def check_restarts(container: Object, path: str, out: list[Cause]) -> None:
    """restartPolicy and restartPolicyRules of a container."""
    policy = container.get("restartPolicy")
    rules: Sequence[Object] = container.get("restartPolicyRules") or ()
    if policy is None:
        if rules:
            why = "must specify restartPolicy when restart rules are used"
            out.append(fields.required(f"{path}.restartPolicy", why))
    elif policy not in POLICIES:
        out.append(fields.not_supported(f"{path}.restartPolicy", policy, POLICIES))
    if len(rules) > MAX_RULES:
        out.append(fields.too_many(f"{path}.restartPolicyRules", len(rules), MAX_RULES))
    for position, rule in enumerate(rules):
        _check_rule(rule, f"{path}.restartPolicyRules[{position}]", out)


def _check_rule(rule: Object, path: str, out: list[Cause]) -> None:
    action = rule.get("action") or ""
    if action not in ACTIONS:
        out.append(fields.not_supported(f"{path}.action", action, ACTIONS))
    codes = rule.get("exitCodes")
    if codes is None:
        out.append(fields.required(f"{path}.exitCodes", "must be specified"))
        return
    operator, values = codes.get("operator") or "", codes.get("values") or ()
    if operator not in OPERATORS:
        out.append(fields.not_supported(f"{path}.exitCodes.operator", operator, OPERATORS))
    if len(values) > MAX_EXIT_CODES:
        out.append(fields.too_many(f"{path}.exitCodes.values", len(values), MAX_EXIT_CODES))
