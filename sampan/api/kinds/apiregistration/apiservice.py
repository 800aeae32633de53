"""APIService (apiregistration.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import STATUS_ALONE, Column, Kind
from ...errors import Cause, Object
from ...names import label_1035_problems, subdomain_problems
from ..formats import BAD_PORT
from ..printing import AGE, NAME, age, name

STATUSES = ("True", "False", "Unknown")
MAX_PRIORITY = 20_000
MAX_VERSION_PRIORITY = 1_000


def default(obj: Object) -> None:
    service = obj.setdefault("spec", {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec, own_name = obj["spec"], obj["metadata"].get("name") or ""
    group, version = spec.get("group") or "", spec.get("version") or ""
    if old is None and own_name != f"{version}.{group}":
        why = '`spec.version+"."+spec.group`'
        text = f"must be {why}: {fields.quote(f'{version}.{group}')}"
        out.append(fields.invalid("metadata.name", own_name, text))
    if not group and version != "v1":
        out.append(
            fields.required(
                "spec.group", "only v1 may have an empty group and it better be legacy kube"
            )
        )
    for why in subdomain_problems(group) if group else ():
        out.append(fields.invalid("spec.group", group, why))
    for why in label_1035_problems(version):
        out.append(fields.invalid("spec.version", version, why))
    for field, most in (
        ("groupPriorityMinimum", MAX_PRIORITY), ("versionPriority", MAX_VERSION_PRIORITY),
    ):  # fmt: skip
        value = spec.get(field) or 0
        if not 0 < value <= most:
            why = f"must be positive and less than {most}"
            out.append(fields.invalid(f"spec.{field}", value, why))
    _check_service(spec, out)
    return out


def _check_service(spec: Object, out: list[Cause]) -> None:
    service, bundle = spec.get("service"), spec.get("caBundle")
    if service is None:
        if bundle:
            why = "local APIServices may not have a caBundle"
            size = f"{len(bundle) * 3 // 4 - bundle.count('=')} bytes"
            out.append(fields.invalid("spec.caBundle", size, why))
        if spec.get("insecureSkipTLSVerify"):
            why = "local APIServices may not have insecureSkipTLSVerify"
            out.append(fields.invalid("spec.insecureSkipTLSVerify", True, why))
        return
    for field in ("namespace", "name"):
        if not service.get(field):
            out.append(fields.required(f"spec.service.{field}"))
    port = service.get("port", 443)
    if not 1 <= port <= 65535:
        out.append(fields.invalid("spec.service.port", port, f"port is not valid: {BAD_PORT}"))
    if spec.get("insecureSkipTLSVerify") and bundle:
        why = "may not be true if caBundle is present"
        out.append(fields.invalid("spec.insecureSkipTLSVerify", True, why))


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    for position, item in enumerate((obj.get("status") or {}).get("conditions") or ()):
        value = item.get("status") or ""
        if value not in STATUSES:
            path = f"status.conditions[{position}].status"
            out.append(fields.not_supported(path, value, STATUSES))
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    service, text = (obj.get("spec") or {}).get("service"), "Local"
    if service:
        text = f"{service.get('namespace', '')}/{service.get('name', '')}"
    available = "Unknown"
    for item in (obj.get("status") or {}).get("conditions") or ():
        if item.get("type") == "Available":
            available = item.get("status") or ""
            if available != "True":
                available = f"{available} ({item.get('reason', '')})"
    return [name(obj), text, available, age(obj, now_s)]


KIND = Kind(
    group="apiregistration.k8s.io",
    version="v1",
    kind="APIService",
    categories=("api-extensions",),
    storage="apiregistration.k8s.io/apiservices",
    name_rule="path",
    generation=False,
    default=default,
    validate=validate,
    validate_status=validate_status,
    columns=(
        NAME,
        Column("Service", "string", "The reference to the service that hosts this API endpoint."),
        Column("Available", "string", "Whether this service is available."),
        AGE,
    ),
    cells=cells,
    status_keeps=STATUS_ALONE,
)
