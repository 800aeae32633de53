"""Which of this machine's addresses others reach it by."""

from __future__ import annotations

import socket

ELSEWHERE = "198.51.100.1"
"""An address of nobody (RFC 5737): the way to it is the default route."""


def primary_address(toward: str = ELSEWHERE) -> str:
    """The address that packets to `toward` leave with; "" when there is no way."""
    family = socket.AF_INET6 if ":" in toward else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((toward, 9))
        except OSError:
            return ""
        found: str = probe.getsockname()[0]
        return found
