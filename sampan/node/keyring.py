"""Which of a pod's pull secrets are for an image: kubelet's keyring (pkg/credentialprovider). Pure.

A key of a Docker configuration is a host, with a port if it has one and the beginning of a path:
"r.io", "r.io:5000/team", "https://index.docker.io/v1/", "*.r.io". A star stands for one part of a
host's name, or a piece of it. All that match are tried, longer ones first.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sampan.api.errors import Object
from sampan.runtime.interface import Credentials

HUB_KEY = "index.docker.io"
HUB_NAMES = ("docker.io", HUB_KEY)
# type of Secret -> (its key, where in the document the entries are)
FORMS = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson", "auths"),
    "kubernetes.io/dockercfg": (".dockercfg", ""),
}


class Key(NamedTuple):
    """Credentials, and the secret they are from."""

    credentials: Credentials
    secret: Object


def keys_for(reference: str, secrets: Iterable[Object]) -> Sequence[Key]:
    """Whatever may open the image, in the order it is tried."""
    index: dict[str, list[Key]] = {}
    for secret in secrets:
        for address, entry in _entries(secret).items():
            found = _credentials(entry)
            place = _place(address)
            if found is not None and place:
                index.setdefault(place, []).append(Key(found, secret))
    matching = [place for place in sorted(index, reverse=True) if _matches(place, reference)]
    if matching:
        return [key for place in matching for key in index[place]]
    return index.get(HUB_KEY, ()) if _is_of_hub(reference) else ()


def _entries(secret: Object) -> Mapping[str, Any]:
    """The secret's hosts. One that is damaged has none; the API accepts no such."""
    name, below = FORMS.get(secret.get("type", ""), ("", ""))
    data = (secret.get("data") or {}).get(name)
    if not data:
        return {}
    try:
        parsed = json.loads(base64.b64decode(data))
        entries = parsed.get(below) if below else parsed
    except (ValueError, binascii.Error, AttributeError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _place(address: str) -> str:
    """Host and path of a key, without the versions that old clients wrote; "" if malformed."""
    try:
        parts = urlsplit(address if _has_scheme(address) else f"https://{address}")
        host = parts.netloc
    except ValueError:
        return ""
    path = parts.path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return host + path if path not in ("", "/") else host


def _has_scheme(address: str) -> bool:
    return address.startswith(("https://", "http://"))


def _matches(place: str, reference: str) -> bool:
    wanted, asked = urlsplit(f"//{place}"), urlsplit(f"//{reference}")
    pattern, pattern_port = _host_parts(wanted.netloc)
    host, port = _host_parts(asked.netloc)
    if pattern_port != port or len(pattern) != len(host):
        return False
    if not asked.path.startswith(wanted.path):
        return False
    return all(map(fnmatch.fnmatchcase, host, pattern))


def _host_parts(netloc: str) -> tuple[Sequence[str], str]:
    """(parts between dots, port)"""
    host, colon, port = netloc.rpartition(":")
    if not colon or "]" in port:
        return netloc.split("."), ""
    return host.split("."), port


def _is_of_hub(reference: str) -> bool:
    first, slash, _ = reference.partition("/")
    return not slash or first in HUB_NAMES or not any(mark in first for mark in ".:")


def _credentials(entry: Any) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    user, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth"):
        try:
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (ValueError, TypeError, binascii.Error):
            return None
        # What docker pads short passwords with.
        password = password.rstrip("\0")
    found = Credentials(
        username=user,
        password=password,
        token=entry.get("registrytoken") or "",
        identity_token=entry.get("identitytoken") or "",
    )
    if not all(isinstance(value, str) for value in (user, password)):
        return None
    return found if user or found.token or found.identity_token else None
