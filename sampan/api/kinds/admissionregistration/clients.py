"""How a server finds a webhook: WebhookClientConfig, as apiserver's util/webhook checks it."""

from __future__ import annotations

import binascii
import re
from typing import Any
from urllib.parse import urlsplit

from ... import fields
from ...errors import Cause, Object
from ...names import subdomain_problems
from ..formats import BAD_PORT

FORM = "; desired format: https://host[/path]"
PORT = 443
NO_PEM = "data does not contain any valid RSA or ECDSA certificates"
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
_SEQUENCE = 0x30
"""What every certificate's DER begins with."""


def default_service(config: Object | None) -> None:
    service = (config or {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = PORT


def check_client(config: Object, path: str, out: list[Cause]) -> None:
    """A WebhookClientConfig."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        why = "exactly one of url or service is required"
        out.append(fields.required(path, why))
    elif service is None:
        _check_url(url, f"{path}.url", out)
    else:
        _check_service(service, f"{path}.service", out)


def _check_service(service: Object, path: str, out: list[Cause]) -> None:
    for field in ("name", "namespace"):
        if not service.get(field):
            out.append(fields.required(f"{path}.{field}", f"service {field} is required"))
    port = service.get("port", PORT)
    if not 1 <= port <= 65535:
        out.append(fields.invalid(f"{path}.port", port, f"port is not valid: {BAD_PORT}"))
    text = service.get("path") or ""
    if text in ("", "/"):
        return
    where = f"{path}.path"
    if text == "//":
        out.append(fields.invalid(where, text, "segment[0] may not be empty"))
        return
    if not text.startswith("/"):
        out.append(fields.invalid(where, text, "must start with a '/'"))
    for position, step in enumerate(text[1:].removesuffix("/").split("/")):
        if not step:
            out.append(fields.invalid(where, text, f"segment[{position}] may not be empty"))
            continue
        for why in subdomain_problems(step):
            out.append(fields.invalid(where, text, f"segment[{position}]: {why}"))


def _check_url(url: Any, path: str, out: list[Cause]) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        out.append(fields.required(path, f"url must be a valid URL: {error}{FORM}"))
        return
    user, at, host = parts.netloc.rpartition("@")
    if parts.scheme != "https":
        why = f"'https' is the only allowed URL scheme{FORM}"
        out.append(fields.invalid(path, parts.scheme, why))
    if not host:
        out.append(fields.invalid(path, host, f"host must be provided{FORM}"))
    for bad, value, why in (
        (at, user, "user information is not permitted in the URL"),
        (parts.fragment, parts.fragment, "fragments are not permitted in the URL"),
        (parts.query, parts.query, "query parameters are not permitted in the URL"),
    ):
        if bad:
            out.append(fields.invalid(path, value, why))


def bundle_problem(bundle: str) -> str:
    """What is wrong with a caBundle, base64 as it travels; "" when it has a certificate."""
    try:
        blocks = _BLOCK.findall(binascii.a2b_base64(bundle))
        found = [binascii.a2b_base64(block) for block in blocks]
    except ValueError:
        found = []
    if found and all(der[:1] == bytes([_SEQUENCE]) for der in found):
        return ""
    return f"unable to load root certificates: {NO_PEM}"
