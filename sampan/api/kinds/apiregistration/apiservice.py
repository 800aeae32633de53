"""APIService (apiregistration.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="apiregistration.k8s.io",
    version="v1",
    kind="APIService",
    categories=("api-extensions",),
    storage="apiregistration.k8s.io/apiservices",
    name_rule="path",
    generation=False,
)
