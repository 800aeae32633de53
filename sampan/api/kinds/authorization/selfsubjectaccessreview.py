"""SelfSubjectAccessReview (authorization.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="authorization.k8s.io",
    version="v1",
    kind="SelfSubjectAccessReview",
    storage="selfsubjectaccessreviews",
)
