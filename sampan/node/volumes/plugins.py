"""What upstream calls the plugin behind a volume, as its metrics have it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

KINDS = {
    "configMap": "configmap", "downwardAPI": "downward-api", "emptyDir": "empty-dir",
    "hostPath": "host-path", "local": "local-volume",
}  # fmt: skip
"""Where the name is not that of the field."""
Note = Callable[[str, str, float, bool], None]
"""(plugin, operation, seconds, has it succeeded)"""
MOUNT, UNMOUNT, MAP = "volume_mount", "volume_unmount", "map_volume"


MADE_ANEW = frozenset(
    f"kubernetes.io/{name}" for name in ("configmap", "secret", "downward-api", "projected")
)
"""Those whose volumes are mounted again whenever something changes (RequiresRemount)."""


def plugin_of(source: Mapping[str, Any]) -> str:
    """Of a pod's volume, or of the spec of a PersistentVolume."""
    csi = source.get("csi")
    if csi:
        return f"kubernetes.io/csi:{csi.get('driver', '')}"
    for field in source:
        if field in KINDS or field in ("secret", "projected", "image", "nfs", "ephemeral"):
            return f"kubernetes.io/{KINDS.get(field, field)}"
    return "kubernetes.io/persistent-claim"


def unnoted(plugin: str, operation: str, seconds: float, good: bool) -> None:
    """Nobody counts."""
