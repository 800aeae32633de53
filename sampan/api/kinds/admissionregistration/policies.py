"""What admission policies and their bindings share. Their expressions are compiled
in `expressions`."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column
from ...errors import Cause, Object
from ...names import label_1035_problems, path_problems, subdomain_problems
from ...selectors import validate_label_selector
from ..formats import check_subdomain, check_supported
from ..printing import AGE, NAME, UNSET, age, name, selector_text
from .expressions import environment_of
from .webhooks import check_conditions, check_rule, default_rules

MUTATING = ("*", "CONNECT", "CREATE", "UPDATE")
BINDING_COLUMNS = (
    NAME,
    Column("PolicyName", "string", "The policy that is bound."),
    Column("ParamRef", "string", "The resource that parameterizes it."),
    AGE,
)


def default_match(owner: Object, field: str) -> None:
    """A MatchResources."""
    match = owner.get(field)
    if match is None:
        return
    if match.get("matchPolicy") is None:
        match["matchPolicy"] = "Equivalent"
    for selector in ("namespaceSelector", "objectSelector"):
        if match.get(selector) is None:
            match[selector] = {}
    default_rules(match, "resourceRules")
    default_rules(match, "excludeResourceRules")


def default_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("failurePolicy") is None:
        spec["failurePolicy"] = "Fail"
    default_match(spec, "matchConstraints")


def default_binding(obj: Object) -> None:
    default_match(obj.setdefault("spec", {}), "matchResources")


def check_policy(spec: Object, path: str, out: list[Cause]) -> None:
    policy = spec.get("failurePolicy")
    if policy not in ("Fail", "Ignore"):
        allowed = ("Fail", "Ignore")
        out.append(fields.not_supported(f"{path}.failurePolicy", policy or "", allowed))
    if spec.get("paramKind") is not None:
        _check_kind(spec["paramKind"], f"{path}.paramKind", out)
    match = spec.get("matchConstraints")
    if match is None:
        out.append(fields.required(f"{path}.matchConstraints"))
    else:
        _check_match(match, f"{path}.matchConstraints", out)
        if not match.get("resourceRules"):
            out.append(fields.required(f"{path}.matchConstraints.resourceRules"))
    conditions = spec.get("matchConditions") or []
    if conditions:
        check_conditions(conditions, f"{path}.matchConditions", out, environment_of(spec))


def _check_kind(kind: Object, path: str, out: list[Cause]) -> None:
    """What parameters are: group and version as an APIService has them, and a kind."""
    text, where = kind.get("apiVersion") or "", f"{path}.apiVersion"
    group, _, version = text.rpartition("/")
    if not text:
        out.append(fields.required(where))
    elif "/" in group:
        out.append(fields.invalid(where, text, f"unexpected GroupVersion string: {text}"))
    else:
        problems = subdomain_problems(group) if group else []
        if problems:
            out.append(fields.invalid(where, group, ",".join(problems)))
        problems = label_1035_problems(version)
        if not version:
            out.append(fields.invalid(where, text, "version must be specified"))
        elif problems:
            out.append(fields.invalid(where, version, ",".join(problems)))
    word = kind.get("kind") or ""
    problems = label_1035_problems(word.lower())
    if not word:
        out.append(fields.required(f"{path}.kind"))
    elif problems:
        why = "may have mixed case, but should otherwise match: " + ",".join(problems)
        out.append(fields.invalid(f"{path}.kind", word, why))


def _check_match(match: Object, path: str, out: list[Cause]) -> None:
    if match.get("matchPolicy") not in ("Equivalent", "Exact"):
        value, allowed = match.get("matchPolicy") or "", ("Equivalent", "Exact")
        out.append(fields.not_supported(f"{path}.matchPolicy", value, allowed))
    for field in ("namespaceSelector", "objectSelector"):
        out += validate_label_selector(match.get(field), f"{path}.{field}")
    for field in ("resourceRules", "excludeResourceRules"):
        for position, rule in enumerate(match.get(field) or ()):
            where, names = f"{path}.{field}[{position}]", rule.get("resourceNames") or []
            for index, item in enumerate(names):
                place = f"{where}.resourceNames[{index}]"
                out += [fields.invalid(place, item, why) for why in path_problems(item)]
                if item in names[:index]:
                    out.append(fields.duplicate(place, item))
            check_rule(rule, where, out)


def check_operations(match: Object | None, path: str, out: list[Cause]) -> None:
    """What mutating policies may be about: nothing is left to change of what is deleted."""
    for rule in (match or {}).get("resourceRules") or ():
        for operation in rule.get("operations") or ():
            if operation not in MUTATING:
                where = f"{path}.resourceRules.operations"
                out.append(fields.not_supported(where, operation, MUTATING))


def check_binding(spec: Object, path: str, out: list[Cause], *, field: str) -> None:
    """`field` is how errors call matchResources."""
    policy = spec.get("policyName") or ""
    if not policy:
        out.append(fields.required(f"{path}.policyName"))
    else:
        check_subdomain(policy, f"{path}.policyName", out)
    reference = spec.get("paramRef")
    if reference is not None:
        _check_reference(reference, f"{path}.paramRef", out)
    if spec.get("matchResources") is not None:
        _check_match(spec["matchResources"], f"{path}.{field}", out)


def _check_reference(reference: Object, path: str, out: list[Cause]) -> None:
    own_name, selector = reference.get("name") or "", reference.get("selector")
    both = "name and selector are mutually exclusive"
    out += [fields.invalid(f"{path}.name", own_name, why) for why in path_problems(own_name)]
    if own_name and selector is not None:
        out.append(fields.forbidden(f"{path}.name", both))
    out += validate_label_selector(selector, f"{path}.selector")
    if own_name and selector is not None:
        out.append(fields.forbidden(f"{path}.selector", both))
    elif not own_name and selector is None:
        out.append(fields.required(path, "one of name or selector must be specified"))
    action = reference.get("parameterNotFoundAction")
    check_supported(action, ("Deny", "Allow"), f"{path}.parameterNotFoundAction", out)


def param_kind_text(spec: Object) -> str:
    kind = spec.get("paramKind")
    return f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else UNSET


def binding_cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    reference, text = spec.get("paramRef"), UNSET
    if reference and reference.get("name"):
        text = f"{reference.get('namespace') or '*'}/{reference['name']}"
    elif reference and reference.get("selector") is not None:
        text = selector_text(reference["selector"])
    return [name(obj), spec.get("policyName") or "", text, age(obj, now_s)]
