"""Which of this machine's addresses others reach it by."""

from __future__ import annotations

import socket
from contextlib import suppress

ELSEWHERE = "198.51.100.1"
"""An address of nobody (RFC 5737): the way to it is the default route."""


def primary_address(toward: str = ELSEWHERE) -> str:
    """The address that packets to `toward` (an address or a name) leave with; "" when there is no
    way."""
    try:
        known = socket.getaddrinfo(toward, 9, type=socket.SOCK_DGRAM)
    except OSError:
        return ""
    for family, kind, protocol, _, address in known:
        with socket.socket(family, kind, protocol) as probe, suppress(OSError):
            probe.connect(address)
            found: str = probe.getsockname()[0]
            return found
    return ""
