"""Ports that are free for UDP and TCP alike, outside the range the kernel gives out by itself."""

from __future__ import annotations

import random
import socket


def free_port(host: str = "127.0.0.1") -> int:
    while True:
        port = random.randrange(20000, 32000)
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind((host, port))
        except OSError:
            continue
        return port
