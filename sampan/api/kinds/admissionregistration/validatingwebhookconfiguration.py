"""ValidatingWebhookConfiguration (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind
from ...errors import Cause, Object
from .webhooks import COLUMNS, cells, check_webhooks, default_webhooks


def default(obj: Object) -> None:
    default_webhooks(obj, mutating=False)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    return check_webhooks(obj, mutating=False)


KIND = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="ValidatingWebhookConfiguration",
    categories=("api-extensions",),
    storage="validatingwebhookconfigurations",
    generation=True,
    default=default,
    validate=validate,
    columns=COLUMNS,
    cells=cells,
)
