"""MutatingWebhookConfiguration (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="MutatingWebhookConfiguration",
    categories=("api-extensions",),
    storage="mutatingwebhookconfigurations",
    generation=True,
)
