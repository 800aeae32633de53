"""Device requests, of claims, their templates and device classes."""

from __future__ import annotations

from ... import fields
from ...errors import Cause, Object
from ..formats import check_label, check_subdomain
from .names import check_config, check_full_name, check_items
from .taints import check_toleration

MAX_REQUESTS = 32
MAX_CHOICES = 8
MAX_SELECTORS = 32
MAX_CONSTRAINTS = 32
MAX_CONFIGS = 32
MODES = ("All", "ExactCount")


def default_requests(spec: Object) -> None:
    for request in (spec.get("devices") or {}).get("requests") or ():
        exact = request.get("exactly")
        for item in [exact] if exact is not None else request.get("firstAvailable") or ():
            if not item.get("allocationMode"):
                item["allocationMode"] = "ExactCount"
            if item["allocationMode"] == "ExactCount" and not item.get("count"):
                item["count"] = 1
            for toleration in item.get("tolerations") or ():
                if not toleration.get("operator"):
                    toleration["operator"] = "Equal"


def check_requests(spec: Object, path: str, out: list[Cause]) -> None:
    """A ResourceClaimSpec."""
    devices, where = spec.get("devices") or {}, f"{path}.devices"
    named = request_names(spec)
    requests = devices.get("requests")
    check_items(requests, MAX_REQUESTS, _check_request, f"{where}.requests", out, key=name_of)

    def check_reference(name: str, place: str, out: list[Cause]) -> None:
        check_request_name(name, named, place, out)

    def check_constraint(item: Object, place: str, out: list[Cause]) -> None:
        wanted = item.get("requests")
        check_items(wanted, MAX_REQUESTS, check_reference, f"{place}.requests", out, key=str)
        _check_attribute(item, place, out)

    def check_one_config(item: Object, place: str, out: list[Cause]) -> None:
        wanted = item.get("requests")
        check_items(wanted, MAX_REQUESTS, check_reference, f"{place}.requests", out, key=str)
        check_config(item, place, out)

    constraints, configs = devices.get("constraints"), devices.get("config")
    check_items(constraints, MAX_CONSTRAINTS, check_constraint, f"{where}.constraints", out)
    check_items(configs, MAX_CONFIGS, check_one_config, f"{where}.config", out)


def name_of(item: Object) -> str:
    return str(item.get("name") or "")


def request_names(spec: Object) -> frozenset[str]:
    """What may be referred to: requests, and request/subrequest."""
    names = set()
    for request in (spec.get("devices") or {}).get("requests") or ():
        name = name_of(request)
        names.add(name)
        names |= {f"{name}/{name_of(item)}" for item in request.get("firstAvailable") or ()}
    return frozenset(names)


def check_request_name(name: str, known: frozenset[str], path: str, out: list[Cause]) -> None:
    """A reference to a request."""
    why = (
        "must be the name of a request in the claim or the name of a request and a subrequest "
        "separated by '/'"
    )
    parts = name.split("/")
    if len(parts) <= 2:
        for part in parts:
            check_label(part, path, out)
    if name not in known:
        out.append(fields.invalid(path, name, why))


def _check_attribute(item: Object, path: str, out: list[Cause]) -> None:
    for field in ("matchAttribute", "distinctAttribute"):
        if item.get(field) is not None:
            check_full_name(item[field], f"{path}.{field}", out)
            return
    why = (
        'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields '
        "are set"
    )
    out.append(fields.required(path, why))


def _check_request(request: Object, path: str, out: list[Cause]) -> None:
    check_label(name_of(request), f"{path}.name", out)
    exact, choices = request.get("exactly"), request.get("firstAvailable")
    if exact is None and not choices:
        why = "exactly one of `exactly` or `firstAvailable` is required"
        out.append(fields.required(path, why))
    elif exact is not None and choices:
        why = (
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
        )
        out.append(fields.invalid(path, None, why))
    elif exact is not None:
        _check_exact(exact, f"{path}.exactly", out)
    else:
        where = f"{path}.firstAvailable"
        check_items(choices, MAX_CHOICES, _check_choice, where, out, key=name_of)


def _check_choice(choice: Object, path: str, out: list[Cause]) -> None:
    check_label(name_of(choice), f"{path}.name", out)
    _check_exact(choice, path, out)


def _check_exact(item: Object, path: str, out: list[Cause]) -> None:
    if not item.get("deviceClassName"):
        out.append(fields.required(f"{path}.deviceClassName"))
    else:
        check_subdomain(item["deviceClassName"], f"{path}.deviceClassName", out)
    check_selectors(item.get("selectors") or [], f"{path}.selectors", out)
    mode, count = item.get("allocationMode"), item.get("count") or 0
    if mode not in MODES:
        out.append(fields.not_supported(f"{path}.allocationMode", mode or "", MODES))
    elif mode == "All" and count:
        why = "must not be specified when allocationMode is 'All'"
        out.append(fields.invalid(f"{path}.count", count, why))
    elif mode == "ExactCount" and count <= 0:
        out.append(fields.invalid(f"{path}.count", count, "must be greater than zero"))
    for position, toleration in enumerate(item.get("tolerations") or ()):
        check_toleration(toleration, f"{path}.tolerations[{position}]", out)


def check_selectors(selectors: list[Object], path: str, out: list[Cause]) -> None:
    check_items(selectors, MAX_SELECTORS, _check_selector, path, out)


def _check_selector(selector: Object, path: str, out: list[Cause]) -> None:
    if selector.get("cel") is None:
        out.append(fields.required(f"{path}.cel"))
    else:
        text = selector["cel"].get("expression") or ""
        _check_expression(text, f"{path}.cel.expression", out)


def _check_expression(text: str, path: str, out: list[Cause]) -> None:
    # CEL is imported with the first selector.
    from ...cel.admission import Unfit
    from ...cel.devices import MAX_LENGTH, TooCostly, compile_selector

    if len(text) > MAX_LENGTH:
        out.append(fields.too_long(path, "", MAX_LENGTH))
        return
    try:
        compile_selector(text)
    except Unfit as error:
        out.append(fields.invalid(path, text, str(error)))
    except TooCostly:
        out.append(fields.forbidden(path, "too complex, exceeds cost limit"))
