"""CustomResourceDefinition (apiextensions.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="apiextensions.k8s.io",
    version="v1",
    kind="CustomResourceDefinition",
    short_names=(
        "crd",
        "crds",
    ),
    categories=("api-extensions",),
    storage="apiextensions.k8s.io/customresourcedefinitions",
)
