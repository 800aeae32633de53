"""ValidatingWebhookConfiguration (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="ValidatingWebhookConfiguration",
    categories=("api-extensions",),
    storage="validatingwebhookconfigurations",
    generation=True,
)
