"""ValidatingAdmissionPolicyBinding (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from ... import fields
from ...descriptor import Kind
from ...errors import Cause, Object
from .policies import BINDING_COLUMNS, binding_cells, check_binding, default_binding

ACTIONS = ("Audit", "Deny", "Warn")


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    # The path is misspelt upstream.
    check_binding(spec, "spec", out, field="matchResouces")
    path, actions = "spec.validationActions", spec.get("validationActions") or []
    for position, action in enumerate(actions):
        if action not in ACTIONS:
            out.append(fields.not_supported(f"{path}[{position}]", action, ACTIONS))
        if action in actions[:position]:
            out.append(fields.duplicate(f"{path}[{position}]", action))
    if "Deny" in actions and "Warn" in actions:
        why = "must not contain both Deny and Warn (repeating the same validation failure " \
              "information in the API response and headers serves no purpose)"  # fmt: skip
        out.append(fields.invalid(path, actions, why))
    if not actions:
        out.append(fields.required(path, "at least one validation action is required"))
    return out


KIND = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="ValidatingAdmissionPolicyBinding",
    categories=("api-extensions",),
    storage="validatingadmissionpolicybindings",
    generation=True,
    default=default_binding,
    validate=validate,
    columns=BINDING_COLUMNS,
    cells=binding_cells,
)
