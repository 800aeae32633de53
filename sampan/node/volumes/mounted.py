"""What a container's status says of its volume mounts (KEP-3857). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.api.errors import Object

RECURSIVE = ("Enabled", "IfPossible")
"""Every kernel we run on knows recursive read-only mounts (5.12), and so does crun."""


def mount_statuses(container: Mapping[str, Any]) -> list[Object]:
    """status.volumeMounts, in the order of the spec; a read-only mount says how deep it is so."""
    out: list[Object] = []
    for mount in container.get("volumeMounts") or ():
        status: Object = {"name": mount["name"], "mountPath": mount["mountPath"]}
        if mount.get("readOnly"):
            deep = mount.get("recursiveReadOnly") in RECURSIVE
            status["readOnly"] = True
            status["recursiveReadOnly"] = "Enabled" if deep else "Disabled"
        out.append(status)
    return out
