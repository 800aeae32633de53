"""A cluster's CA, known by a hash that fits on a command line."""

from __future__ import annotations

import hashlib


def ca_hash(pem: bytes) -> str:
    """Of the public key (SubjectPublicKeyInfo) of a CA certificate, as kubeadm's
    --discovery-token-ca-cert-hash has it. Raises ValueError for what is no certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    key = x509.load_pem_x509_certificate(pem).public_key()
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"sha256:{hashlib.sha256(der).hexdigest()}"
