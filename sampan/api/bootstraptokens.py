"""Bootstrap tokens as they are kept: Secrets of kube-system, one per token, named by its id."""

from __future__ import annotations

import base64

from .errors import Object
from .times import TimeError, parse_time

TYPE = "bootstrap.kubernetes.io/token"
NAMESPACE, PREFIX = "kube-system", "bootstrap-token-"


def values_of(secret: Object) -> dict[str, str]:
    """The data of a secret as text; what is no text counts as missing."""
    found = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value).decode()
        except ValueError:
            continue
    return found


def end_of(expiration: str | None) -> float | None:
    """When a token ends, None for never; a time that cannot be read has passed, as upstream."""
    if not expiration:
        return None
    try:
        return parse_time(expiration)
    except TimeError:
        return 0.0
