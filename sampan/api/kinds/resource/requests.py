"""Device requests, of claims, their templates and device classes."""

from __future__ import annotations

from ... import fields
from ...errors import Cause, Object
from ..formats import check_label, check_subdomain

MAX_REQUESTS = 32
MAX_SELECTORS = 32
MODES = ("All", "ExactCount")


def default_requests(spec: Object) -> None:
    for request in (spec.get("devices") or {}).get("requests") or ():
        exact = request.get("exactly")
        for item in [exact] if exact is not None else request.get("firstAvailable") or ():
            if not item.get("allocationMode"):
                item["allocationMode"] = "ExactCount"
            if item["allocationMode"] == "ExactCount" and not item.get("count"):
                item["count"] = 1


def check_requests(spec: Object, path: str, out: list[Cause]) -> None:
    """A ResourceClaimSpec."""
    requests = (spec.get("devices") or {}).get("requests") or []
    where = f"{path}.devices.requests"
    if len(requests) > MAX_REQUESTS:
        out.append(fields.too_many(where, len(requests), MAX_REQUESTS))
    seen: set[str] = set()
    for position, request in enumerate(requests):
        _check_request(request, f"{where}[{position}]", seen, out)


def _check_request(request: Object, path: str, seen: set[str], out: list[Cause]) -> None:
    name = request.get("name") or ""
    check_label(name, f"{path}.name", out)
    if name in seen:
        out.append(fields.duplicate(f"{path}.name", name))
    seen.add(name)
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
        for position, choice in enumerate(choices or ()):
            _check_exact(choice, f"{path}.firstAvailable[{position}]", out)


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


def check_selectors(selectors: list[Object], path: str, out: list[Cause]) -> None:
    if len(selectors) > MAX_SELECTORS:
        out.append(fields.too_many(path, len(selectors), MAX_SELECTORS))
    for position, selector in enumerate(selectors):
        if selector.get("cel") is None:
            out.append(fields.required(f"{path}[{position}].cel"))
        else:
            text = selector["cel"].get("expression") or ""
            _check_expression(text, f"{path}[{position}].cel.expression", out)


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
