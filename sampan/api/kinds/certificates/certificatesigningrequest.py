"""CertificateSigningRequest (certificates.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="certificates.k8s.io",
    version="v1",
    kind="CertificateSigningRequest",
    short_names=("csr",),
    storage="certificatesigningrequests",
    generation=False,
)
