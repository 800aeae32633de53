"""A small driver of devices (DRA): it registers over the same sockets as a CSI driver does."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from sampan.node.csi import schemas
from sampan.node.dra.plugins import CALLS, REQUEST, SERVICES
from sampan.wire.messages import decode, encode

from .csidriver import Driver

REGISTRATION = ("GetInfo", "NotifyRegistrationStatus")


class DeviceDriver(Driver):
    """`devices` are the CDI names by request that each claim gets; `errors` fail a claim by its
    name."""

    def __init__(self, name: str, folder: Path, registry: Path) -> None:
        super().__init__(name, folder, registry)
        self.versions = ["v1.DRAPlugin", "v1beta1.DRAPlugin"]
        self.devices: dict[str, list[str]] = {}
        self.errors: dict[str, str] = {}
        self.holds: dict[str, asyncio.Event] = {}
        """Claims whose answer waits, by their name."""

    def __mapping__(self) -> dict[str, Handler]:
        known = super().__mapping__()
        kept = [f"{schemas.REGISTRATION}{call}" for call in REGISTRATION]
        out = {path: known[path] for path in kept}
        for service in SERVICES.values():
            for call in CALLS:

                async def handle(stream: Stream[bytes, bytes], call: str = call) -> None:
                    body = await stream.recv_message()
                    answer = self._claims(call, body)
                    for claim in decode(REQUEST, body or b"")["claims"]:
                        if claim["name"] in self.holds:
                            await self.holds[claim["name"]].wait()
                    await stream.send_message(answer)

                out[f"{service}{call}"] = Handler(handle, Cardinality.UNARY_UNARY, bytes, bytes)
        return out

    def _claims(self, call: str, body: bytes | None) -> bytes:
        message = decode(REQUEST, body or b"")
        self.calls.append((call, message))
        rows = []
        for claim in message["claims"]:
            value: dict[str, Any] = {"error": self.errors.get(claim["name"], "")}
            if call == "NodePrepareResources":
                value["devices"] = [
                    {
                        "request_names": [request] if request else [],
                        "pool_name": "p",
                        "device_name": "d",
                        "cdi_device_ids": ids,
                    }
                    for request, ids in self.devices.items()
                ]
            rows.append({"key": claim["uid"], "value": value})
        return encode(CALLS[call], {"claims": rows})

    def _GetInfo(self, message: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        info = super()._GetInfo(message)
        return {**info, "type": "DRAPlugin", "supported_versions": self.versions}


async def serve(name: str, folder: Path, registry: Path, cdi: str) -> None:
    """As a program: every claim gets the CDI device, until the program is ended."""
    driver = DeviceDriver(name, folder, registry)
    driver.devices = {"": [cdi]}
    await driver.start()
    print("serving", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await driver.stop()
        print([call for call, _ in driver.calls], flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
