"""What an administrator may choose for a machine's way to other machines.

A file `overlay.yaml` beside `kubelet.yaml`, read at the node's start:

    wireguard: auto     # or "off": by VXLAN alone, unencrypted; so do all who talk to this machine
    wireguardPort: 0    # UDP port where it is heard; 0 is the cluster's own, of 51820 to 52819
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from .settingsfile import read_settings_file

FILE = "overlay.yaml"
FILE_MAX = 1 << 16
"""Bytes of the file, which has two lines."""
_FIELDS = {"wireguard", "wireguardPort"}


class OverlaySettings(Struct, frozen=True):
    wireguard: bool = True
    port: int = 0
    """0 for the cluster's own."""


def read_overlay_settings(path: Path) -> OverlaySettings:
    """Raises ValueError when the file is there and wrong."""
    return read_settings_file(path, FILE_MAX, parse_overlay_settings) or OverlaySettings()


def parse_overlay_settings(document: Any) -> OverlaySettings:
    """Raises ValueError."""
    if not isinstance(document, dict):
        raise ValueError("not a mapping")
    if odd := sorted(map(str, document.keys() - _FIELDS)):
        raise ValueError(f"unknown: {', '.join(odd)}; there are: {', '.join(sorted(_FIELDS))}")
    choice = document.get("wireguard", "auto")
    # YAML's own word for off is a boolean.
    if choice not in ("auto", "off", True, False):
        raise ValueError(f"wireguard: {choice!r} is neither auto nor off")
    port = document.get("wireguardPort", 0)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise ValueError(f"wireguardPort: {port!r} is no port")
    return OverlaySettings(choice in ("auto", True), port)
