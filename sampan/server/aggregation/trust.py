"""How extension servers know whom to believe: the front-proxy certificate, its headers, and the
ConfigMap that tells them of both (kube-system/extension-apiserver-authentication)."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from ..config import ServerConfig
    from ..exchange import User

CONFIG_MAP: Final = "extension-apiserver-authentication"
CLIENT_NAME: Final = "front-proxy-client"
"""Common name of the certificate the aggregator shows."""
USER, UID, GROUP, EXTRA = "X-Remote-User", "X-Remote-Uid", "X-Remote-Group", "X-Remote-Extra-"
# What may stand in a header's name (RFC 9110 token), without %, which escapes.
TOKEN: Final = frozenset(string.digits + string.ascii_letters + "!#$&'*+-.^_`|~")


def authentication_data(config: ServerConfig) -> dict[str, str]:
    """The ConfigMap's data, as upstream's cluster authentication trust controller writes it."""
    data = {"client-ca-file": config.ca_cert.read_text()}
    if config.front_proxy_ca is None:
        return data

    def quoted(text: str) -> str:
        return orjson.dumps([text]).decode()

    return data | {
        "requestheader-allowed-names": quoted(CLIENT_NAME),
        "requestheader-client-ca-file": config.front_proxy_ca.read_text(),
        "requestheader-extra-headers-prefix": quoted(EXTRA),
        "requestheader-group-headers": quoted(GROUP),
        "requestheader-uid-headers": quoted(UID),
        "requestheader-username-headers": quoted(USER),
    }


def identity_headers(user: User) -> list[tuple[str, str]]:
    """Who asks, as an extension server reads it."""
    out = [(USER, user.name)]
    if user.uid:
        out.append((UID, user.uid))
    out += [(GROUP, group) for group in user.groups]
    for key, values in user.extra.items():
        out += [(EXTRA + escape(key), value) for value in values]
    return out


def escape(key: str) -> str:
    """An extra's key as part of a header's name (client-go transport.headerKeyEscape)."""
    return "".join(
        letter if letter in TOKEN else "".join(f"%{byte:02X}" for byte in letter.encode())
        for letter in key
    )
