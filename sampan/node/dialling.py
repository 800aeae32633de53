"""Connections to a pod's own loopback, from outside of its network namespace.

A socket belongs to the namespace it was made in, so it is made there by a thread of its own and
used here. At most `THREADS` sockets are being made at once; each takes some 20 us.
"""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sampan.linux import netns

THREADS = 1
DIAL_S = 10.0
LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))

_worker = ThreadPoolExecutor(THREADS, thread_name_prefix="dialling")


async def dial(namespace: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port of the pod's loopback; "" is the node's own network.

    What listens on IPv6 alone is found too. Raises OSError with the reason in Go's words.
    """
    failure = ""
    for family, host in LOOPBACK:
        try:
            sock = await _socket(namespace, family)
        except OSError as error:
            failure = failure or str(error.strerror or error)
            continue
        try:
            sock.setblocking(False)
            async with asyncio.timeout(DIAL_S):
                await asyncio.get_running_loop().sock_connect(sock, (host, port))
            return await asyncio.open_connection(sock=sock)
        except (OSError, TimeoutError) as error:
            sock.close()
            code = getattr(error, "errno", None)
            reason = os.strerror(code).lower() if code else "i/o timeout"
            shown = f"[{host}]" if ":" in host else host
            failure = failure or f"dial tcp {shown}:{port}: connect: {reason}"
        except BaseException:
            sock.close()
            raise
    raise OSError(failure)


async def _socket(namespace: str, family: int) -> socket.socket:
    if not namespace:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_worker, netns.open_socket, Path(namespace), family)
