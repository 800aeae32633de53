"""A machine's keys of WireGuard, for the way to other machines (`node.wireguard`)."""

from __future__ import annotations

import base64
from pathlib import Path

from .config import write_private

NAME = "wireguard"


def ensure_wireguard(pki: Path) -> None:
    """Make them where there are none: NAME.key is secret, NAME.pub is told to all nodes."""
    if (pki / f"{NAME}.pub").exists():
        return
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = X25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    for end, data in (("key", key.private_bytes_raw()), ("pub", public)):
        write_private(pki / f"{NAME}.{end}", base64.b64encode(data))
