"""The order of API versions, which discovery, definitions and clients share."""

from __future__ import annotations

import re

_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")
_STAGES = {"alpha": 0, "beta": 1, "": 2}


def rank(name: str) -> tuple[int, int, int, int, str]:
    """Kubernetes' order of versions, best first when sorted: v2, v1, v1beta2, v1beta1, others."""
    match = _VERSION.fullmatch(name)
    if match is None:
        return 1, 0, 0, 0, name
    return 0, -_STAGES[match[2] or ""], -int(match[1]), -int(match[3] or 0), name
