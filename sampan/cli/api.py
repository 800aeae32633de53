"""A few plain GETs for commands that show things: the standard library starts fastest."""

from __future__ import annotations

import json
import ssl
import urllib.request
from typing import Any

from sampan.paths import ClusterPaths

TIMEOUT_S = 5.0


def get(paths: ClusterPaths, url: str, path: str) -> Any:
    """Decoded answer of the cluster's own API server. Raises OSError."""
    context = ssl.create_default_context(cafile=str(paths.pki / "ca.crt"))
    token = paths.token.read_text().strip()
    request = urllib.request.Request(f"{url}{path}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:
        return json.load(answer)
