"""IngressClass (networking.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..formats import check_domain_path, check_label
from ..printing import AGE, NAME, NONE, age, name
from .ingress import check_reference

MAX_CONTROLLER = 250
SCOPES = ("Cluster", "Namespace")


def default(obj: Object) -> None:
    parameters = obj.setdefault("spec", {}).get("parameters")
    if parameters is not None and parameters.get("scope") is None:
        parameters["scope"] = "Cluster"


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    controller = spec.get("controller") or ""
    if old is not None:
        before = (old.get("spec") or {}).get("controller")
        out += fields.unchanged("spec.controller", controller, before)
    if len(controller) > MAX_CONTROLLER:
        out.append(fields.too_long("spec.controller", "", MAX_CONTROLLER))
    check_domain_path(controller, "spec.controller", out)
    if spec.get("parameters") is not None:
        _check_parameters(spec["parameters"], "spec.parameters", out)
    return out


def _check_parameters(parameters: Object, path: str, out: list[Cause]) -> None:
    check_reference(parameters, path, out)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    where = f"{path}.namespace"
    if scope is None:
        out.append(fields.required(f"{path}.scope"))
    elif scope not in SCOPES:
        out.append(fields.not_supported(f"{path}.scope", scope, SCOPES))
    elif scope == "Namespace":
        if namespace is None:
            why = "`parameters.scope` is set to 'Namespace'"
            out.append(fields.required(where, why))
        else:
            check_label(namespace, where, out)
    elif namespace is not None:
        out.append(fields.forbidden(where, "`parameters.scope` is set to 'Cluster'"))


def cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    reference, text = spec.get("parameters"), NONE
    if reference is not None:
        group = reference.get("apiGroup")
        kind = reference.get("kind", "")
        text = f"{kind}.{group}" if group is not None else kind
        text = f"{text}/{reference.get('name', '')}"
    return [name(obj), spec.get("controller") or "", text, age(obj, now_s)]


KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="IngressClass",
    storage="ingressclasses",
    generation=True,
    default=default,
    validate=validate,
    columns=(
        NAME,
        Column("Controller", "string", "Controller that is responsible for handling this class"),
        Column("Parameters", "string", "A reference to a resource with additional parameters"),
        AGE,
    ),
    cells=cells,
)
