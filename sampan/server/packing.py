"""Large answers packed with gzip for those who take it, as upstream. What comes in is never
unpacked: a body is what its bytes say, so there is no bomb to send.
"""

from __future__ import annotations

import asyncio
import zlib

from .exchange import Request, Response

GZIP_LEAST = 128 << 10
"""Smaller answers are sent as they are, as upstream."""
GZIP_LEVEL = 1
THREAD_LEAST = 1 << 20
"""Answers from this size are compressed beside the event loop."""


def wants_gzip(request: Request, response: Response) -> bool:
    """Is this answer worth packing, and does the client take it so?"""
    return (
        response.body is not None
        and len(response.body) > GZIP_LEAST
        and "gzip" in request.headers.get("accept-encoding", "")
        and not any(name == "Content-Encoding" for name, _ in response.headers)
    )


async def compress(response: Response) -> None:
    """Pack the body of `response`."""
    body = response.body
    assert body is not None
    if len(body) < THREAD_LEAST:
        response.body = gzipped(body)
    else:
        loop = asyncio.get_running_loop()
        response.body = await loop.run_in_executor(None, gzipped, body)
    response.headers = [
        *response.headers,
        ("Content-Encoding", "gzip"),
        ("Vary", "Accept-Encoding"),
    ]


def gzipped(body: bytes) -> bytes:
    """The bytes of a gzip file."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()
