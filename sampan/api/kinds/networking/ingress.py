"""Ingress (networking.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...fields import quote
from ...names import path_problems, regex_problem
from ..addresses import check_ip, parse_ip
from ..formats import check_label, check_port, check_subdomain, port_name_problems
from ..printing import AGE, NAME, NONE, age, balancer_text, name, shortened

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
BAD_ENDINGS = ("/..", "/.")
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_WILDCARD_TEXT = regex_problem(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
    "which must consist of lower case alphanumeric characters, '-' or '.' and end with an "
    "alphanumeric character",
    rf"\*\.{_LABEL}(\.{_LABEL})*", "*.example.com",
)  # fmt: skip
NOT_A_NAME = "must be a DNS name, not an IP address"


def default(obj: Object) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and backend is None:
        why = "either `defaultBackend` or `rules` must be specified"
        out.append(fields.invalid("spec", fields.NIL, why))
    if backend is not None:
        _check_backend(backend, "spec.defaultBackend", out)
    for position, rule in enumerate(rules):
        _check_rule(rule, f"spec.rules[{position}]", out)
    for position, item in enumerate(spec.get("tls") or ()):
        path = f"spec.tls[{position}]"
        for index, host in enumerate(item.get("hosts") or ()):
            _check_host(host, f"{path}.hosts[{index}]", out)
        if item.get("secretName"):
            check_subdomain(item["secretName"], f"{path}.secretName", out)
    chosen = spec.get("ingressClassName")
    if chosen is not None:
        check_subdomain(chosen, "spec.ingressClassName", out)
        given = (obj["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION)
        if old is None and given is not None and given != chosen:
            why = "must match `ingressClassName` when both are specified"
            out.append(fields.invalid(f"annotations.{CLASS_ANNOTATION}", given, why))
    return out


def _check_host(host: str, path: str, out: list[Cause]) -> None:
    if "*" in host:
        before = len(out)
        check_subdomain(host.removeprefix("*."), path, out)
        if len(out) > before or not host.startswith("*."):
            del out[before:]
            out.append(fields.invalid(path, host, _WILDCARD_TEXT))
    else:
        check_subdomain(host, path, out)


def _check_rule(rule: Object, path: str, out: list[Cause]) -> None:
    host = rule.get("host")
    if host:
        if parse_ip(host) is not None:
            out.append(fields.invalid(f"{path}.host", host, NOT_A_NAME))
        _check_host(host, f"{path}.host", out)
    http = rule.get("http")
    if http is None:
        return
    if not http.get("paths"):
        out.append(fields.required(f"{path}.http.paths"))
    for position, item in enumerate(http.get("paths") or ()):
        _check_path(item, f"{path}.http.paths[{position}]", out)


def _check_path(item: Object, path: str, out: list[Cause]) -> None:
    kind, text, where = item.get("pathType"), item.get("path") or "", f"{path}.path"
    if kind is None:
        out.append(fields.required(f"{path}.pathType", "pathType must be specified"))
        return
    if kind not in PATH_TYPES:
        out.append(fields.not_supported(f"{path}.pathType", kind, PATH_TYPES))
    elif not text.startswith("/") and (text or kind != "ImplementationSpecific"):
        out.append(fields.invalid(where, text, "must be an absolute path"))
    if kind in ("Exact", "Prefix"):
        for bad in BAD_SEQUENCES:
            if bad in text:
                out.append(fields.invalid(where, text, f"must not contain '{bad}'"))
        for bad in BAD_ENDINGS:
            if text.endswith(bad):
                out.append(fields.invalid(where, text, f"cannot end with '{bad}'"))
    _check_backend(item.get("backend") or {}, f"{path}.backend", out)


def _check_backend(backend: Object, path: str, out: list[Cause]) -> None:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        why = "cannot set both resource and service backends"
        out.append(fields.invalid(path, "", why))
    elif resource is not None:
        check_reference(resource, f"{path}.resource", out)
    elif service is None:
        out.append(fields.invalid(path, "", "resource or service backend is required"))
    else:
        if not service.get("name"):
            out.append(fields.required(f"{path}.service.name"))
        else:
            check_label(service["name"], f"{path}.service.name", out)
        port = service.get("port") or {}
        text, number = port.get("name"), port.get("number")
        if text and number:
            out.append(fields.invalid(path, "", "cannot set both port name & port number"))
        elif text:
            where = f"{path}.service.port.name"
            out += [fields.invalid(where, text, why) for why in port_name_problems(text)]
        elif number:
            check_port(number, f"{path}.service.port.number", out)
        else:
            out.append(fields.required(path, "port name or number is required"))


def check_reference(reference: Object, path: str, out: list[Cause]) -> None:
    """A TypedLocalObjectReference."""
    if reference.get("apiGroup") is not None:
        check_subdomain(reference["apiGroup"], f"{path}.apiGroup", out)
    for field in ("kind", "name"):
        value = reference.get(field)
        if not value:
            out.append(fields.required(f"{path}.{field}", f"{field} is required"))
        else:
            out += [fields.invalid(f"{path}.{field}", value, why) for why in path_problems(value)]


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    for position, item in enumerate(ingress):
        path = f"status.loadBalancer.ingress[{position}]"
        if item.get("ip"):
            check_ip(item["ip"], f"{path}.ip", out)
        if item.get("hostname"):
            check_subdomain(item["hostname"], f"{path}.hostname", out)
            if parse_ip(item["hostname"]) is not None:
                out.append(fields.invalid(f"{path}.hostname", item["hostname"], NOT_A_NAME))
    return out


def warnings(obj: Object, old: Object | None) -> list[str]:
    given = CLASS_ANNOTATION in (obj["metadata"].get("annotations") or {})
    if old is not None or not given or obj["spec"].get("ingressClassName") is not None:
        return []
    return [
        f"annotation {quote(CLASS_ANNOTATION)} is deprecated, please use "
        "'spec.ingressClassName' instead"
    ]


def cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    hosts = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
    return [
        name(obj),
        spec.get("ingressClassName") or NONE,
        shortened(hosts) or "*",
        balancer_text(obj.get("status")),
        "80, 443" if spec.get("tls") else "80",
        age(obj, now_s),
    ]


KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="Ingress",
    short_names=("ing",),
    storage="ingress",
    default=default,
    validate=validate,
    warnings=warnings,
    validate_status=validate_status,
    columns=(
        NAME,
        Column("Class", "string", "The IngressClass that implements it."),
        Column(
            "Hosts", "string", "Hosts that incoming requests are matched against before the rule"
        ),
        Column("Address", "string", "Addresses of its load balancer."),
        Column("Ports", "string", "Ports of TLS configurations that open"),
        AGE,
    ),
    cells=cells,
)
