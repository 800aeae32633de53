"""A small CSI driver: a real gRPC server over Unix sockets, whose volumes are directories.

In a test's own process it "mounts" as the test says (`mount`, `unmount`); as a program of its own,
`python -m tests.kit.csidriver NAME FOLDER KUBELET NODE`, it makes bind mounts, as drivers do that
run in pods, and follows VolumeAttachments not at all: an attacher is another program.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from sampan.linux import mounts
from sampan.node.csi.schemas import CALLS
from sampan.wire.messages import decode, encode

ABILITIES = (1, 3)
"""STAGE_UNSTAGE_VOLUME and EXPAND_VOLUME."""


class Bytes(CodecBase):
    """Messages as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return message

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class Driver:
    """`calls` is what was asked, in order; `fail` gives a call's error once."""

    def __init__(self, name: str, folder: Path, registry: Path, node: str = "n1") -> None:
        self.name = name
        self.node = node
        self.folder = folder
        self.endpoint = folder / "csi.sock"
        self.registration = registry / f"{name}-reg.sock"
        self.told = str(self.endpoint)
        """Where the driver says it is."""
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.registered: list[tuple[bool, str]] = []
        self.fail: dict[str, tuple[Status, str]] = {}
        self.abilities = ABILITIES
        self.topology: dict[str, str] = {}
        self.max_volumes = 0
        self.mount: Callable[[Path, Path], None] = lambda source, target: None
        self.unmount: Callable[[Path], None] = lambda target: None
        self._servers: list[Server] = []

    def __mapping__(self) -> dict[str, Handler]:
        out = {}
        for call, (service, *_) in CALLS.items():

            async def handle(stream: Stream[bytes, bytes], call: str = call) -> None:
                await stream.send_message(await self._answer(call, await stream.recv_message()))

            out[f"{service}{call}"] = Handler(handle, Cardinality.UNARY_UNARY, bytes, bytes)
        return out

    async def _answer(self, call: str, body: bytes | None) -> bytes:
        _, asked, answered = CALLS[call]
        message = decode(asked, body or b"")
        self.calls.append((call, message))
        if call in self.fail:
            raise GRPCError(*self.fail.pop(call))
        return encode(answered, getattr(self, f"_{call}", lambda message: {})(message))

    def asked(self, call: str) -> list[dict[str, Any]]:
        """The messages of one call."""
        return [message for name, message in self.calls if name == call]

    async def start(self) -> None:
        """Listen; the registration's socket comes last, as it is what the node waits for."""
        for path in (self.endpoint, self.registration):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            server = Server([self], codec=Bytes())
            # The folder's descriptor, as a test's folders have long names.
            folder = os.open(path.parent, os.O_PATH)
            try:
                await server.start(path=f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
            self._servers.append(server)

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()
        self._servers.clear()
        for path in (self.registration, self.endpoint):
            path.unlink(missing_ok=True)

    def volume(self, handle: str) -> Path:
        """Where a volume's files are."""
        path = self.folder / "volumes" / handle
        path.mkdir(parents=True, exist_ok=True)
        return path

    def device(self, handle: str) -> Path:
        """What a block volume is, beside the others: the test makes it."""
        return self.folder / "devices" / handle

    # Answers

    def _GetInfo(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {
            "type": "CSIPlugin",
            "name": self.name,
            "endpoint": self.told,
            "supported_versions": ["1.0.0"],
        }

    def _NotifyRegistrationStatus(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.registered.append((message["plugin_registered"], message["error"]))
        return {}

    def _NodeGetInfo(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        topology = {"segments": self.topology} if self.topology else None
        return {
            "node_id": f"id-of-{self.node}",
            "max_volumes_per_node": self.max_volumes,
            "accessible_topology": topology,
        }

    def _NodeGetCapabilities(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"capabilities": [{"rpc": {"type": item}} for item in self.abilities]}

    def _NodeStageVolume(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if message["volume_capability"]["block"] is not None:
            return {}
        source, target = self.volume(message["volume_id"]), Path(message["staging_target_path"])
        if not mounts.is_mounted(target):
            self.mount(source, target)
        return {}

    def _NodePublishVolume(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        staged, target = message["staging_target_path"], Path(message["target_path"])
        if message["volume_capability"]["block"] is not None:
            target.touch()
            self.mount(self.device(message["volume_id"]), target)
            return {}
        target.mkdir(exist_ok=True)
        source = Path(staged) if staged else self.volume(message["volume_id"])
        if not mounts.is_mounted(target):
            self.mount(source, target)
        return {}

    def _NodeUnpublishVolume(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        target = Path(message["target_path"])
        self.unmount(target)
        if target.is_dir():
            target.rmdir()
        target.unlink(missing_ok=True)
        if message["volume_id"].startswith("csi-"):
            shutil.rmtree(self.volume(message["volume_id"]))
        return {}

    def _NodeUnstageVolume(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.unmount(Path(message["staging_target_path"]))
        return {}

    def _NodeExpandVolume(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"capacity_bytes": message["capacity_range"]["required_bytes"]}


def _unmount(target: Path) -> None:
    if mounts.is_mounted(target):
        mounts.unmount(target)


async def _serve(name: str, folder: str, kubelet: str, node: str) -> None:
    driver = Driver(name, Path(folder), Path(kubelet, "plugins_registry"), node)
    driver.mount = lambda source, target: mounts.bind(source, target)
    driver.unmount = _unmount
    await driver.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
