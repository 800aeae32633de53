"""ValidatingAdmissionPolicyBinding (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="ValidatingAdmissionPolicyBinding",
    categories=("api-extensions",),
    storage="validatingadmissionpolicybindings",
    generation=True,
)
