"""MutatingAdmissionPolicyBinding (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind
from ...errors import Cause, Object
from .policies import (
    BINDING_COLUMNS,
    binding_cells,
    check_binding,
    check_operations,
    default_binding,
)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is None or obj["spec"] != old.get("spec"):
        check_binding(obj["spec"], "spec", out, field="matchResources")
        check_operations(obj["spec"].get("matchResources"), "spec.matchResources", out)
    return out


KIND = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="MutatingAdmissionPolicyBinding",
    categories=("api-extensions",),
    storage="mutatingadmissionpolicybindings",
    generation=True,
    default=default_binding,
    validate=validate,
    columns=BINDING_COLUMNS,
    cells=binding_cells,
)
