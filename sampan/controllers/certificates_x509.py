"""PKCS#10 requests and the X.509 certificates made of them. `cryptography` is imported when the
first is met."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sampan.wire.pem import read_request

from .certificates_plan import Subject

if TYPE_CHECKING:
    from cryptography import x509

KEY_USES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
"""Usages that speak of the key, not of what it proves (RFC 5280 4.2.1.3)."""
EXTENDED_USES = {
    "any": "2.5.29.37.0",
    "server auth": "1.3.6.1.5.5.7.3.1",
    "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}
Authority = tuple["x509.Certificate", Any]
"""The CA's certificate and its private key."""


def load(pem: bytes) -> x509.CertificateSigningRequest:
    """A PKCS#10 request whose signature is good and all whose parts can be read. Raises
    ValueError."""
    from cryptography import x509

    asked = x509.load_der_x509_csr(read_request(pem))
    if not asked.is_signature_valid:
        raise ValueError("the signature does not match the key")
    try:
        _ = asked.subject, asked.extensions
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from None
    return asked


def subject_of(asked: x509.CertificateSigningRequest) -> Subject:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def texts(oid: x509.ObjectIdentifier) -> list[str]:
        return [str(item.value) for item in asked.subject.get_attributes_for_oid(oid)]

    names = _alternative_names(asked) or ()
    kinds = (x509.DNSName, x509.IPAddress, x509.RFC822Name, x509.UniformResourceIdentifier)
    dns, ips, emails, uris = (
        tuple(str(item.value) for item in names if isinstance(item, kind)) for kind in kinds
    )
    common = texts(NameOID.COMMON_NAME)
    return Subject(
        # Of several the last counts, as where a certificate tells who is asking.
        common[-1] if common else "",
        texts(NameOID.ORGANIZATION_NAME),
        dns,
        ips,
        emails,
        uris,
    )


def _alternative_names(
    asked: x509.CertificateSigningRequest,
) -> x509.SubjectAlternativeName | None:
    from cryptography import x509

    try:
        return asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def issue(
    asked: x509.CertificateSigningRequest,
    usages: Sequence[str],
    validity_s: tuple[float, float],
    authority: Authority,
) -> bytes:
    """A certificate, PEM, for the subject and names asked for; it never outlives its CA."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    issuer, key = authority
    begins, ends = (datetime.fromtimestamp(item, UTC) for item in validity_s)
    builder = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(issuer.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(min(ends, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # Strict verifiers (Python 3.13 by default) take no certificate without it.
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
    )
    # A key usage without a use is not a certificate to OpenSSL 3.
    if any(usage in KEY_USES for usage in usages):
        builder = builder.add_extension(_key_usage(usages), critical=True)
    extended = {EXTENDED_USES[usage]: None for usage in usages if usage in EXTENDED_USES}
    if extended:
        uses = x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in extended])
        builder = builder.add_extension(uses, critical=False)
    names = _alternative_names(asked)
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_usage(usages: Sequence[str]) -> x509.KeyUsage:
    from cryptography import x509

    uses = dict.fromkeys(KEY_USES.values(), False)
    uses |= {KEY_USES[usage]: True for usage in usages if usage in KEY_USES}
    if not uses["key_agreement"]:
        # These two say what a key agreement is for, and nothing without one.
        uses |= {"encipher_only": False, "decipher_only": False}
    return x509.KeyUsage(**uses)


def expires_s(pem: bytes) -> float | None:
    """When a certificate ends; None if it is none."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    except ValueError:
        return None
