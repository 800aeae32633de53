"""Validation of what places a pod: affinity, tolerations, spreading, gates."""

from __future__ import annotations

from collections.abc import Sequence

from .... import fields
from ....errors import Cause, Object
from ....names import label_key_problems, label_value_problems
from ....selectors import validate_label_selector
from ...formats import NOT_POSITIVE, check_label, check_qualified, check_subdomain

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
REQUIRED_TERMS = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED_TERMS = "preferredDuringSchedulingIgnoredDuringExecution"
ANY_KEY = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'


def check_tolerations(tolerations: Sequence[Object], path: str, out: list[Cause]) -> None:
    for position, item in enumerate(tolerations):
        key, operator = item.get("key") or "", item.get("operator") or ""
        effect, value = item.get("effect") or "", item.get("value") or ""
        if not key and operator == "Exists" and not value and not effect and len(item) == 1:
            continue
        where = f"{path}[{position}]"
        if key:
            check_qualified(key, f"{where}.key", out)
        elif operator != "Exists":
            out.append(fields.invalid(f"{where}.operator", operator, ANY_KEY))
        if item.get("tolerationSeconds") is not None and effect != "NoExecute":
            why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            out.append(fields.invalid(f"{where}.effect", effect, why))
        _check_operator(operator, value, f"{where}.operator", out)
        if effect and effect not in EFFECTS:
            out.append(fields.not_supported(f"{where}.effect", effect, EFFECTS))


def _check_operator(operator: str, value: str, path: str, out: list[Cause]) -> None:
    if operator in ("", "Equal"):
        problems = label_value_problems(value)
        if problems:
            out.append(fields.invalid(path, value, ";".join(problems)))
    elif operator == "Exists":
        if value:
            why = "value must be empty when `operator` is 'Exists'"
            out.append(fields.invalid(path, value, why))
    else:
        out.append(fields.not_supported(path, operator, ("Equal", "Exists")))


def check_taints(taints: Sequence[Object], path: str, out: list[Cause]) -> None:
    """A node's taints."""
    seen: set[tuple[str, str]] = set()
    for position, taint in enumerate(taints):
        where = f"{path}[{position}]"
        key, effect = taint.get("key") or "", taint.get("effect") or ""
        check_qualified(key, f"{where}.key", out)
        problems = label_value_problems(taint.get("value") or "")
        if problems:
            out.append(fields.invalid(f"{where}.value", taint.get("value"), ";".join(problems)))
        if not effect:
            out.append(fields.required(f"{where}.effect"))
        elif effect not in EFFECTS:
            out.append(fields.not_supported(f"{where}.effect", effect, EFFECTS))
        if (key, effect) in seen:
            text = f"Duplicate value: {fields.show(taint)}"
            why = "taints must be unique by key and effect pair"
            out.append(Cause(where, f"{text}: {why}", fields.DUPLICATE))
        seen.add((key, effect))


def check_affinity(affinity: Object, path: str, out: list[Cause]) -> None:
    node = affinity.get("nodeAffinity")
    if node is not None:
        where = f"{path}.nodeAffinity"
        if node.get(REQUIRED_TERMS) is not None:
            check_node_selector(node[REQUIRED_TERMS], f"{where}.{REQUIRED_TERMS}", out)
        for position, term in enumerate(node.get(PREFERRED_TERMS) or ()):
            place = f"{where}.{PREFERRED_TERMS}[{position}]"
            _check_weight(term, place, out)
            _check_node_term(term.get("preference") or {}, f"{place}.preference", out, True)
    for name in ("podAffinity", "podAntiAffinity"):
        if affinity.get(name) is not None:
            _check_pod_affinity(affinity[name], f"{path}.{name}", out)


def _check_weight(term: Object, path: str, out: list[Cause]) -> None:
    weight = term.get("weight") or 0
    if not 1 <= weight <= 100:
        out.append(fields.invalid(f"{path}.weight", weight, "must be in the range 1-100"))


def check_node_selector(selector: Object, path: str, out: list[Cause]) -> None:
    """A required NodeSelector, of a pod or a volume."""
    where = f"{path}.nodeSelectorTerms"
    terms = selector.get("nodeSelectorTerms")
    if not terms:
        out.append(fields.required(where, "must have at least one node selector term"))
        return
    for position, term in enumerate(terms):
        _check_node_term(term, f"{where}[{position}]", out, False)


def _check_node_term(term: Object, path: str, out: list[Cause], any_value: bool) -> None:
    for position, item in enumerate(term.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{position}]"
        _check_node_expression(item, where, out)
        if not any_value:
            for index, value in enumerate(item.get("values") or ()):
                for why in label_value_problems(value):
                    out.append(fields.invalid(f"{where}.values[{index}]", value, why))
    for position, item in enumerate(term.get("matchFields") or ()):
        _check_node_field(item, f"{path}.matchFields[{position}]", out)


def _check_node_expression(item: Object, path: str, out: list[Cause]) -> None:
    operator, values = item.get("operator") or "", item.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            why = "must be specified when `operator` is 'In' or 'NotIn'"
            out.append(fields.required(f"{path}.values", why))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            out.append(fields.forbidden(f"{path}.values", why))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            why = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            out.append(fields.required(f"{path}.values", why))
    else:
        why = "not a valid selector operator"
        out.append(fields.invalid(f"{path}.operator", operator, why))
    check_qualified(item.get("key") or "", f"{path}.key", out)


def _check_node_field(item: Object, path: str, out: list[Cause]) -> None:
    operator, values = item.get("operator") or "", item.get("values") or ()
    if operator not in ("In", "NotIn"):
        why = "not a valid selector operator"
        out.append(fields.invalid(f"{path}.operator", operator, why))
    elif len(values) != 1:
        why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        out.append(fields.required(f"{path}.values", why))
    key = item.get("key") or ""
    if key != "metadata.name":
        out.append(fields.invalid(f"{path}.key", key, "not a valid field selector key"))
        return
    for index, value in enumerate(values):
        check_subdomain(value, f"{path}.values[{index}]", out)


def _check_pod_affinity(affinity: Object, path: str, out: list[Cause]) -> None:
    for position, term in enumerate(affinity.get(REQUIRED_TERMS) or ()):
        _check_pod_term(term, f"{path}.{REQUIRED_TERMS}[{position}]", out)
    for position, item in enumerate(affinity.get(PREFERRED_TERMS) or ()):
        where = f"{path}.{PREFERRED_TERMS}[{position}]"
        _check_weight(item, where, out)
        _check_pod_term(item.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm", out)


def _check_pod_term(term: Object, path: str, out: list[Cause]) -> None:
    selector = term.get("labelSelector")
    for name in ("labelSelector", "namespaceSelector"):
        if term.get(name) is not None:
            out += validate_label_selector(term[name], f"{path}.{name}")
    for namespace in term.get("namespaces") or ():
        check_label(namespace, f"{path}.namespace", out)
    match, mismatch = term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or ()
    for name, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            why = "must not be specified when labelSelector is not set"
            out.append(fields.forbidden(f"{path}.{name}", why))
        elif keys:
            for position, key in enumerate(keys):
                check_qualified(key, f"{path}.{name}[{position}]", out)
    if match and selector is not None:
        _check_chosen(selector, match, path, out)
    for position, key in enumerate(match):
        if key in mismatch:
            why = "exists in both matchLabelKeys and mismatchLabelKeys"
            out.append(fields.invalid(f"{path}.matchLabelKeys[{position}]", key, why))
    topology = term.get("topologyKey") or ""
    if not topology:
        out.append(fields.required(f"{path}.topologyKey", "can not be empty"))
    check_qualified(topology, f"{path}.topologyKey", out)


def _check_chosen(selector: Object, match: Sequence[str], path: str, out: list[Cause]) -> None:
    """No key of matchLabelKeys is in the selector twice: the expression made for it is there."""
    places = {key: position for position, key in enumerate(match)}
    seen = set(selector.get("matchLabels") or ())
    for item in selector.get("matchExpressions") or ():
        key = item.get("key") or ""
        if key in places and key in seen:
            # Upstream's path goes without the name of the list.
            why = "exists in both matchLabelKeys and labelSelector"
            out.append(fields.invalid(f"{path}[{places[key]}]", key, why))
        seen.add(key)


def check_spreading(
    constraints: Sequence[Object], path: str, merged: bool, out: list[Cause]
) -> None:
    """spec.topologySpreadConstraints. `merged`: of a Pod, whose selectors have got an expression
    for each of matchLabelKeys when it was created."""
    pairs = [
        (item.get("topologyKey") or "", item.get("whenUnsatisfiable") or "") for item in constraints
    ]
    for position, item in enumerate(constraints):
        where = f"{path}[{position}]"
        key, action = pairs[position]
        skew = item.get("maxSkew") or 0
        if skew <= 0:
            out.append(fields.invalid(f"{where}.maxSkew", skew, NOT_POSITIVE))
        if not key:
            out.append(fields.required(f"{where}.topologyKey", "can not be empty"))
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            allowed = ("DoNotSchedule", "ScheduleAnyway")
            out.append(fields.not_supported(f"{where}.whenUnsatisfiable", action, allowed))
        if pairs[position] in pairs[position + 1 :]:
            place = f"{where}.{{topologyKey, whenUnsatisfiable}}"
            out.append(fields.duplicate(place, f"{{{key}, {action}}}"))
        _check_spread_options(item, action, where, out)
        _check_spread_selector(item, where, merged, out)


def _check_spread_options(item: Object, action: str, path: str, out: list[Cause]) -> None:
    domains = item.get("minDomains")
    if domains is not None:
        where = f"{path}.minDomains"
        if domains <= 0:
            out.append(fields.invalid(where, domains, NOT_POSITIVE))
        if action != "DoNotSchedule":
            why = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            out.append(fields.invalid(where, domains, why))
    for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        policy = item.get(name)
        if policy is not None and policy not in ("Honor", "Ignore"):
            out.append(fields.not_supported(f"{path}.{name}", policy, ("Honor", "Ignore")))


def _check_spread_selector(item: Object, path: str, merged: bool, out: list[Cause]) -> None:
    selector = item.get("labelSelector")
    keys = item.get("matchLabelKeys") or ()
    if keys and selector is None:
        why = "must not be specified when labelSelector is not set"
        out.append(fields.forbidden(f"{path}.matchLabelKeys", why))
    chosen = list((selector or {}).get("matchLabels") or ())
    chosen += [term.get("key") for term in (selector or {}).get("matchExpressions") or ()]
    for position, key in enumerate(keys):
        where = f"{path}.matchLabelKeys[{position}]"
        check_qualified(key, where, out)
        if chosen.count(key) > merged:
            why = "exists in both matchLabelKeys and labelSelector"
            out.append(fields.invalid(where, key, why))
    if selector is not None:
        out += validate_label_selector(selector, f"{path}.labelSelector")


def check_gates(gates: Sequence[Object], path: str, out: list[Cause]) -> None:
    """spec.schedulingGates."""
    seen: set[str] = set()
    for position, gate in enumerate(gates):
        name = gate.get("name") or ""
        for why in label_key_problems(name):
            out.append(fields.invalid(f"{path}[{position}]", name, why))
        if name in seen:
            out.append(fields.duplicate(f"{path}[{position}]", name))
        seen.add(name)
