"""TLS for outgoing calls: whom to believe, and what went wrong, in the words of Go's crypto/tls,
which people search for.

Bound: `CONTEXTS` contexts are kept, each some 50 KB; the least recently used goes.
"""

from __future__ import annotations

import ssl
import time
from functools import lru_cache
from pathlib import Path

from .target import Address, CallFailed, Target

CONTEXTS = 200
"""As upstream's cache of webhook clients."""

# OpenSSL's X509_V_ERR_*: what a chain that does not end in a known root is called.
UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21, 27})
NOT_VALID_NOW = frozenset({9, 10})
WRONG_NAME = frozenset({62, 64})


def context_of(target: Target) -> ssl.SSLContext:
    """The context for a target. Raises CallFailed for a bundle or certificate that is none."""
    try:
        cert, key = target.client_cert, target.client_key
        # A renewed certificate is another file: it is taken with the next connection.
        pair = None if cert is None else (cert, key, cert.stat().st_mtime_ns)
        return _context(target.ca, pair, target.insecure)
    except (ssl.SSLError, OSError, ValueError) as error:
        words = str(error)
        if target.ca and target.client_cert is None:
            words = "unable to load root certificates: unable to parse bytes as PEM block"
        raise CallFailed(words) from None


@lru_cache(maxsize=CONTEXTS)
def _context(
    ca: bytes, pair: tuple[Path, Path | None, int] | None, insecure: bool
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As Go: the subject's common name is no host name.
    context.hostname_checks_common_name = False
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca:
        context.load_verify_locations(cadata=ca.decode("ascii", "replace"))
        # A bundle may hold an intermediate or a serving certificate itself, as Go allows.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if pair is not None:
        context.load_cert_chain(pair[0], pair[1])
    return context


async def tls_words(error: ssl.SSLError, address: Address, name: str) -> str:
    """What Go would say of a failed handshake with `name`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = await _certificate_words(error, address, name)
        return f"tls: failed to verify certificate: x509: {words}"
    reason = (error.reason or "").replace("_", " ").lower()
    if "http request" in reason or "wrong version number" in reason:
        return "http: server gave HTTP response to HTTPS client"
    if "alert" in reason:
        return f"remote error: tls: {reason.rpartition('alert ')[2]}"
    return f"tls: {reason or error}"


async def _certificate_words(
    error: ssl.SSLCertVerificationError, address: Address, name: str
) -> str:
    code = error.verify_code
    if code in UNKNOWN_ISSUER:
        return "certificate signed by unknown authority"
    if code not in WRONG_NAME | NOT_VALID_NOW:
        return error.verify_message
    from .inspecting import certificate_at, name_words, time_words

    certificate = await certificate_at(address, name)
    if code in NOT_VALID_NOW:
        plain = "certificate has expired or is not yet valid"
        return plain if certificate is None else time_words(certificate, time.time())
    if certificate is None:
        return f"certificate is not valid for any names, but wanted to match {name}"
    return name_words(certificate, name)
