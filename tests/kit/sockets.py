"""Ports that are free for UDP and TCP alike, outside what the kernel and NodePorts take from."""

from __future__ import annotations

import random
import socket

_TRIES = 100


def free_pair(host: str = "127.0.0.1") -> int:
    """One number, free for both. Raises OSError when a hundred tries find none."""
    for _ in range(_TRIES):
        port = random.randrange(20000, 30000)
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind((host, port))
        except OSError:
            continue
        return port
    raise OSError("no port is free for UDP and TCP")
