"""MutatingWebhookConfiguration (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind
from ...errors import Cause, Object
from .webhooks import COLUMNS, cells, check_webhooks, default_webhooks


def default(obj: Object) -> None:
    default_webhooks(obj, mutating=True)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    return check_webhooks(obj, mutating=True)


KIND = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="MutatingWebhookConfiguration",
    categories=("api-extensions",),
    storage="mutatingwebhookconfigurations",
    generation=True,
    default=default,
    validate=validate,
    columns=COLUMNS,
    cells=cells,
)
