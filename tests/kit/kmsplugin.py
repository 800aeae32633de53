"""A small KMS plugin (v2): a real gRPC server over a Unix socket in a thread of its own, as the
store is opened by synchronous code.

with kms_plugin(folder) as plugin:
    plugin.endpoint  # for the EncryptionConfiguration
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from sampan.server.kms import CALLS, SERVICE
from sampan.wire.messages import decode, encode

from .csidriver import Bytes

NOTE = "note.kms.example.com"


class KmsPlugin:
    """It "wraps" by the present key's name and a mask; `calls` is what was asked, in order."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.key_id = "k1"
        self.healthz = "ok"
        self.calls: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"

    def __mapping__(self) -> dict[str, Handler]:
        out = {}
        for call, (asked, answered) in CALLS.items():

            async def handle(
                stream: Stream[bytes, bytes], call: str = call, asked: Any = asked,
                answered: Any = answered,
            ) -> None:  # fmt: skip
                message = decode(asked, await stream.recv_message() or b"")
                self.calls.append(call)
                await stream.send_message(encode(answered, getattr(self, call.lower())(message)))

            out[SERVICE + call] = Handler(handle, Cardinality.UNARY_UNARY, bytes, bytes)
        return out

    def status(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"version": "v2", "healthz": self.healthz, "key_id": self.key_id}

    def encrypt(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "ciphertext": self.key_id.encode() + b":" + _masked(message["plaintext"]),
            "key_id": self.key_id,
            "annotations": [{"key": NOTE, "value": b"kept"}],
        }

    def decrypt(self, message: dict[str, Any]) -> dict[str, Any]:
        key_id, _, masked = message["ciphertext"].partition(b":")
        notes = {item["key"]: item["value"] for item in message["annotations"]}
        if key_id.decode() != message["key_id"] or notes != {NOTE: b"kept"}:
            raise GRPCError(Status.INVALID_ARGUMENT, "not what was wrapped")
        return {"plaintext": _masked(masked)}


def _masked(data: bytes) -> bytes:
    return bytes(byte ^ 0x5A for byte in data)


@contextmanager
def kms_plugin() -> Iterator[KmsPlugin]:
    """A plugin that listens; its thread ends with the block."""
    with TemporaryDirectory(prefix="kms-") as folder:
        plugin = KmsPlugin(Path(folder) / "kms.sock")
        ready, loop = threading.Event(), asyncio.new_event_loop()
        over: asyncio.Future[None] = loop.create_future()

        async def serve() -> None:
            server = Server([plugin], codec=Bytes())
            await server.start(path=str(plugin.socket))
            ready.set()
            await over
            server.close()
            await server.wait_closed()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        ready.wait()
        try:
            yield plugin
        finally:
            loop.call_soon_threadsafe(over.set_result, None)
            thread.join()
            loop.close()
