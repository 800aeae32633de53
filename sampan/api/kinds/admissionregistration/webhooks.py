"""What both webhook configurations share: defaults, validation, their row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import fields
from ...descriptor import Column
from ...errors import Cause, Object
from ...names import label_1035_problems, subdomain_problems
from ...selectors import validate_label_selector
from ..formats import check_qualified
from ..printing import AGE, NAME, age, name
from .clients import check_client, default_service
from .expressions import check_expression, environment_of

if TYPE_CHECKING:
    from ...cel import Environment

VERSIONS = ("v1", "v1beta1")
SIDE_EFFECTS = ("None", "NoneOnDryRun")
OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
SCOPES = ("*", "Cluster", "Namespaced")
COLUMNS = (
    NAME,
    Column(
        "Webhooks",
        "integer",
        "Webhooks indicates the number of webhooks registered in this configuration",
    ),
    AGE,
)


def default_webhooks(obj: Object, *, mutating: bool) -> None:
    for hook in obj.get("webhooks") or ():
        for field, value in (
            ("failurePolicy", "Fail"), ("matchPolicy", "Equivalent"), ("timeoutSeconds", 10),
        ):  # fmt: skip
            if hook.get(field) is None:
                hook[field] = value
        for field in ("namespaceSelector", "objectSelector"):
            if hook.get(field) is None:
                hook[field] = {}
        if mutating and hook.get("reinvocationPolicy") is None:
            hook["reinvocationPolicy"] = "Never"
        default_rules(hook)
        default_service(hook.get("clientConfig"))


def default_rules(owner: Object, field: str = "rules") -> None:
    for rule in owner.get(field) or ():
        if rule.get("scope") is None:
            rule["scope"] = "*"


def check_webhooks(obj: Object, *, mutating: bool) -> list[Cause]:
    out: list[Cause] = []
    seen: set[str] = set()
    for position, hook in enumerate(obj.get("webhooks") or ()):
        path = f"webhooks[{position}]"
        _check_hook(hook, path, mutating, out)
        own_name = hook.get("name")
        if own_name and own_name in seen:
            out.append(fields.duplicate(f"{path}.name", own_name))
        seen.add(own_name or "")
    return out


def _check_hook(hook: Object, path: str, mutating: bool, out: list[Cause]) -> None:
    _check_full_name(hook.get("name") or "", f"{path}.name", out)
    for position, rule in enumerate(hook.get("rules") or ()):
        check_rule(rule, f"{path}.rules[{position}]", out)
    words: list[tuple[str, tuple[str, ...]]] = [
        ("failurePolicy", ("Fail", "Ignore")),
        ("matchPolicy", ("Equivalent", "Exact")),
    ]
    if mutating:
        words.append(("reinvocationPolicy", ("IfNeeded", "Never")))
    for field, allowed in words:
        if hook.get(field) not in allowed:
            out.append(fields.not_supported(f"{path}.{field}", hook.get(field) or "", allowed))
    effects = hook.get("sideEffects")
    if effects is None:
        why = f"must specify one of {', '.join(SIDE_EFFECTS)}"
        out.append(fields.required(f"{path}.sideEffects", why))
    elif effects not in SIDE_EFFECTS:
        out.append(fields.not_supported(f"{path}.sideEffects", effects, SIDE_EFFECTS))
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        why = "the timeout value must be between 1 and 30 seconds"
        out.append(fields.invalid(f"{path}.timeoutSeconds", seconds, why))
    for field in ("namespaceSelector", "objectSelector"):
        out += validate_label_selector(hook.get(field), f"{path}.{field}")
    check_client(hook.get("clientConfig") or {}, f"{path}.clientConfig", out)
    _check_versions(hook.get("admissionReviewVersions") or [], path, out)
    check_conditions(hook.get("matchConditions") or [], f"{path}.matchConditions", out)


def _check_full_name(text: str, path: str, out: list[Cause]) -> None:
    if not text:
        out.append(fields.required(path))
        return
    problems = subdomain_problems(text)
    if problems:
        out.append(fields.invalid(path, text, ",".join(problems)))
    elif text.count(".") < 2:
        why = "should be a domain with at least three segments separated by dots"
        out.append(fields.invalid(path, text, why))


def check_rule(rule: Object, path: str, out: list[Cause]) -> None:
    """A RuleWithOperations."""
    operations = rule.get("operations") or []
    if not operations:
        out.append(fields.required(f"{path}.operations"))
    if len(operations) > 1 and "*" in operations:
        why = "if '*' is present, must not specify other operations"
        out.append(fields.invalid(f"{path}.operations", operations, why))
    for position, operation in enumerate(operations):
        if operation not in OPERATIONS:
            where = f"{path}.operations[{position}]"
            out.append(fields.not_supported(where, operation, OPERATIONS))
    for field, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(field) or []
        if not values:
            out.append(fields.required(f"{path}.{field}"))
        if len(values) > 1 and "*" in values:
            why = f"if '*' is present, must not specify other {what}"
            out.append(fields.invalid(f"{path}.{field}", values, why))
    for position, version in enumerate(rule.get("apiVersions") or ()):
        if not version:
            out.append(fields.required(f"{path}.apiVersions[{position}]"))
    _check_resources(rule.get("resources") or [], f"{path}.resources", out)
    scope = rule.get("scope")
    if scope is not None and scope not in SCOPES:
        out.append(fields.not_supported(f"{path}.scope", scope, SCOPES))


def _check_resources(resources: list[str], path: str, out: list[Cause]) -> None:
    """Resources of a rule, none of which is in another already."""
    if not resources:
        out.append(fields.required(path))
    whole: set[str] = set()
    """Resources of which all subresources are named before."""
    everywhere: set[str] = set()
    """Subresources that are named before for all resources."""
    for position, item in enumerate(resources):
        where = f"{path}[{position}]"
        name, slash, sub = item.partition("/")
        if not item:
            out.append(fields.required(where))
        if not slash:
            continue
        for known, form in ((name in whole, f"{name}/*"), (sub in everywhere, f"*/{sub}")):
            if known:
                why = f"if '{form}' is present, must not specify {item}"
                out.append(fields.invalid(where, item, why))
        if sub == "*":
            whole.add(name)
        if name == "*":
            everywhere.add(sub)
    if len(resources) > 1 and "*/*" in resources:
        why = "if '*/*' is present, must not specify other resources"
        out.append(fields.invalid(path, resources, why))
    if "*" in resources and any(item and "/" not in item and item != "*" for item in resources):
        why = "if '*' is present, must not specify other resources without subresources"
        out.append(fields.invalid(path, resources, why))


def _check_versions(versions: list[str], hook: str, out: list[Cause]) -> None:
    path = f"{hook}.admissionReviewVersions"
    if not versions:
        why = f"must specify one of {', '.join(VERSIONS)}"
        out.append(fields.required(path, why))
        return
    for position, version in enumerate(versions):
        where = f"{path}[{position}]"
        if version in versions[:position]:
            out.append(fields.invalid(where, version, "duplicate version"))
            continue
        out += [fields.invalid(where, version, why) for why in label_1035_problems(version)]
    if not set(versions) & set(VERSIONS):
        why = f"must include at least one of {', '.join(VERSIONS)}"
        out.append(fields.invalid(path, versions, why))


def check_conditions(
    conditions: list[Object], path: str, out: list[Cause], base: Environment | None = None
) -> None:
    """matchConditions. `base` is what their expressions may refer to: of a webhook if not given."""
    if len(conditions) > 64:
        out.append(fields.too_many(path, len(conditions), 64))
    seen: set[str] = set()
    for position, item in enumerate(conditions):
        own_name = item.get("name") or ""
        if not (item.get("expression") or "").strip():
            out.append(fields.required(f"{path}[{position}].expression"))
        else:
            known = environment_of({}) if base is None else base
            check_expression(item["expression"], f"{path}[{position}].expression", known, out)
        if not own_name:
            out.append(fields.required(f"{path}[{position}].name"))
        else:
            check_qualified(own_name, f"{path}[{position}].name", out)
            if own_name in seen:
                out.append(fields.duplicate(f"{path}[{position}].name", own_name))
        seen.add(own_name)


def cells(obj: Object, now_s: float) -> list[Any]:
    return [name(obj), len(obj.get("webhooks") or ()), age(obj, now_s)]
