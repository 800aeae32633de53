"""Users that a proxy in front of us vouches for, by X-Remote-* headers.

As upstream's --requestheader-* flags as kubeadm sets them: only a client certificate that the
front-proxy CA vouches for counts, and of those only the names in `ALLOWED`. It stands for no user
of its own. From anybody else the headers mean nothing. TLS tells only that *some* trusted CA
vouches for a certificate, so which one it was is read from the chain it verified.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sampan.api.principals import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED

from ..exchange import User

ALLOWED = frozenset({"front-proxy-client"})
"""--requestheader-allowed-names"""
USER, UID, GROUP, EXTRA = "x-remote-user", "x-remote-uid", "x-remote-group", "x-remote-extra-"
END = "-----END CERTIFICATE-----"
DER = 2
"""OpenSSL's X509_FILETYPE_ASN1"""


class ProxyCertificate(bytes):
    """A client certificate (DER) of the front-proxy CA."""

    __slots__ = ()


def read_authority(path: Path | None) -> frozenset[bytes]:
    """The front-proxy CA's certificates (DER); none without a file. Raises ValueError."""
    if path is None or not path.exists():
        return frozenset()
    blocks = path.read_text().split(END)[:-1]
    return frozenset(ssl.PEM_cert_to_DER_cert(f"{block.strip()}\n{END}\n") for block in blocks)


def certificate_of(link: Any, authority: frozenset[bytes]) -> bytes | None:
    """The client's certificate on a TLS connection, None if it showed none; a `ProxyCertificate`
    if the CA it goes back to is in `authority`."""
    der: bytes | None = link.getpeercert(binary_form=True)
    if der is None or not authority:
        return der
    # Public since Python 3.13.
    chain = getattr(link, "get_verified_chain", None) or link._sslobj.get_verified_chain
    found = chain()
    if not found:
        # Nobody can tell whose it is.
        return None
    root = found[-1]
    if not isinstance(root, bytes):
        root = root.public_bytes(DER)
    return ProxyCertificate(der) if root in authority else der


def user_of(headers: Mapping[str, str]) -> User | None:
    """The user the headers name; None if they name nobody."""
    name = headers.get(USER, "").strip()
    if not name:
        return None
    groups = _split(headers.get(GROUP, ""))
    known = AUTHENTICATED in groups or UNAUTHENTICATED in groups or name == ANONYMOUS
    if not known:
        groups = (*groups, AUTHENTICATED)
    extra = {
        unquote(key.removeprefix(EXTRA)).lower(): _split(value)
        for key, value in headers.items()
        if key.startswith(EXTRA)
    }
    return User(name, groups, headers.get(UID, ""), extra)


def _split(value: str) -> tuple[str, ...]:
    """The values of a header that may be repeated."""
    return tuple(part for item in value.split(",") if (part := item.strip()))
