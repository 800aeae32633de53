"""Calls by gRPC over a Unix socket, with grpclib, which is loaded at the first call: nobody who has
no driver pays for it.

One connection per peer, made when it is needed and again when it was lost; no queue, no retry.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpclib.client import Channel

CODES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound",
    "AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted",
    "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip
DEADLINE_EXCEEDED, NOT_FOUND, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 4, 5, 12, 13, 14

ADDRESS_MAX = 107
"""Bytes of a socket's path that connect(2) takes."""


class RpcError(Exception):
    """A call that failed; the text is as grpc-go has it."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        self.name = CODES[code] if 0 <= code < len(CODES) else f"Code({code})"
        super().__init__(f"rpc error: code = {self.name} desc = {message}")


class Peer:
    """A server behind a socket file."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._channel: Channel | None = None
        self._folder = -1

    async def call(self, method: str, message: bytes, timeout_s: float) -> bytes:
        """`method` is a path. Raises RpcError."""
        from grpclib.client import UnaryUnaryMethod
        from grpclib.exceptions import GRPCError, StreamTerminatedError

        if self._channel is None:
            self._channel = _open(self._address())
        rpc: UnaryUnaryMethod[bytes, bytes] = UnaryUnaryMethod(self._channel, method, bytes, bytes)
        try:
            return await rpc(message, timeout=timeout_s)
        except GRPCError as error:
            raise RpcError(error.status.value, error.message or "") from error
        except TimeoutError as error:
            raise RpcError(DEADLINE_EXCEEDED, "context deadline exceeded") from error
        except (OSError, StreamTerminatedError) as error:
            raise _unavailable(error) from error

    def _address(self) -> str:
        """A path that is too long for a socket is named by its folder's descriptor. Raises
        RpcError."""
        path = os.fspath(self.socket)
        if len(os.fsencode(path)) <= ADDRESS_MAX:
            return path
        try:
            self._folder = os.open(self.socket.parent, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise _unavailable(error) from error
        return f"/proc/self/fd/{self._folder}/{self.socket.name}"

    def close(self) -> None:
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _unavailable(error: Exception) -> RpcError:
    return RpcError(UNAVAILABLE, f'connection error: desc = "transport: {error}"')


def _open(address: str) -> Channel:
    from grpclib.client import Channel
    from grpclib.encoding.base import CodecBase

    class Bytes(CodecBase):
        """Messages are encoded before they come here."""

        @property
        def __content_subtype__(self) -> str:
            return "proto"

        def encode(self, message: Any, message_type: Any) -> bytes:
            return bytes(message)

        def decode(self, data: bytes, message_type: Any) -> bytes:
            return data

    return Channel(path=address, codec=Bytes())
