"""What is told of a certificate that was refused, in Go's words (crypto/x509): the names it has, or
the time it holds. Imported only where a call has failed.

OpenSSL does not give away the certificate it refuses, so it is fetched by a second handshake, over
which nothing is said.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.x509.oid import NameOID

from .target import Address

MAX_NAMES = 100
"""Names that are listed, as Go."""


async def certificate_at(address: Address, name: str) -> x509.Certificate | None:
    """The certificate shown to one who asks for `name`; None if there is none to be had."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(
            address.host, address.port, ssl=context, server_hostname=name
        )
    except OSError:
        return None
    try:
        raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(raw) if raw else None
    except ValueError:
        return None
    finally:
        writer.transport.abort()


def name_words(certificate: x509.Certificate, name: str) -> str:
    """Why a certificate is not for `name`."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        if name in _common_names(certificate):
            return "certificate relies on legacy Common Name field, use SANs instead"
        found = x509.SubjectAlternativeName([])
    if _is_address(name):
        names = [str(item) for item in found.get_values_for_type(x509.IPAddress)]
        if not names:
            return f"cannot validate certificate for {name} because it doesn't contain any IP SANs"
        kind = "IP SANs"
    else:
        names, kind = found.get_values_for_type(x509.DNSName), "names"
    if len(names) >= MAX_NAMES:
        return f"certificate is valid for {len(names)} {kind}, but none matched {name}"
    if not names:
        return f"certificate is not valid for any names, but wanted to match {name}"
    return f"certificate is valid for {', '.join(names)}, not {name}"


def time_words(certificate: x509.Certificate, now_s: float) -> str:
    """When a certificate is valid, and that this is not now."""
    words = "certificate has expired or is not yet valid: "
    now = datetime.fromtimestamp(now_s, UTC)
    if now < certificate.not_valid_before_utc:
        limit = f"before {_told(certificate.not_valid_before_utc)}"
    elif now > certificate.not_valid_after_utc:
        limit = f"after {_told(certificate.not_valid_after_utc)}"
    else:
        # It is that of somebody above it.
        return words.removesuffix(": ")
    return f"{words}current time {_told(now)} is {limit}"


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _common_names(certificate: x509.Certificate) -> list[str]:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [str(item.value) for item in found]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
