"""The drivers of devices that have registered on this node, and calls to them.

Calls have upstream's limit of 45 s; one that fails is made again by whoever wanted it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sampan.aio.grpc import INTERNAL, Peer, RpcError
from sampan.wire.messages import TEXT, Schema, decode, encode
from sampan.wire.protobuf import ProtobufError

from ..registered import Registered

TIMEOUT_S = 45.0
SERVICES: Final = {
    "v1.DRAPlugin": "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/",
    "v1beta1.DRAPlugin": "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin/",
}
"""Services a driver may say it has, the best first; their messages are the same."""

CLAIM: Schema = {"namespace": (1, TEXT), "uid": (2, TEXT), "name": (3, TEXT)}
DEVICE: Schema = {
    "request_names": (1, [TEXT]),
    "pool_name": (2, TEXT),
    "device_name": (3, TEXT),
    "cdi_device_ids": (4, [TEXT]),
}
REQUEST: Schema = {"claims": (1, [CLAIM])}
PREPARED: Schema = {"devices": (1, [DEVICE]), "error": (2, TEXT)}
UNPREPARED: Schema = {"error": (1, TEXT)}
CALLS: Final[dict[str, Schema]] = {
    "NodePrepareResources": {"claims": (1, [{"key": (1, TEXT), "value": (2, PREPARED)}])},
    "NodeUnprepareResources": {"claims": (1, [{"key": (1, TEXT), "value": (2, UNPREPARED)}])},
}
"""Call -> its answer."""


class PluginError(Exception):
    """A driver is not there, or did not do what it was asked."""


class Plugin:
    """One driver behind its socket. `versions` are the services it says it has."""

    def __init__(self, name: str, socket: Path, versions: Sequence[str]) -> None:
        """Raises ValueError when none of them is known."""
        self.name = name
        service = next((item for item in SERVICES if item in versions), "")
        if not service:
            raise ValueError(
                f"none of the gRPC service versions {list(versions)} is supported by the node"
            )
        self._service = SERVICES[service]
        self._peer = Peer(socket)

    async def ask(
        self, call: str, claims: Sequence[Mapping[str, str]]
    ) -> dict[str, Mapping[str, Any]]:
        """By the claims' uids; each of them is in the answer and went well. Raises PluginError."""
        try:
            body = await self._peer.call(
                f"{self._service}{call}", encode(REQUEST, {"claims": claims}), TIMEOUT_S
            )
            rows = decode(CALLS[call], body)["claims"]
        except ProtobufError as error:
            text = f"grpc: failed to unmarshal the received message: {error}"
            raise PluginError(f"{call}: {RpcError(INTERNAL, text)}") from error
        except (RpcError, OSError) as error:
            raise PluginError(f"{call}: {error}") from error
        found = {row["key"]: row["value"] or {} for row in rows}
        names = {claim["uid"]: claim["name"] for claim in claims}
        for uid, result in found.items():
            if uid not in names:
                raise PluginError(f"{call} returned result for unknown claim UID {uid}")
            if result.get("error"):
                text = f"{call} failed for ResourceClaim {names[uid]}: {result['error']}"
                raise PluginError(text)
        if len(found) < len(claims):
            raise PluginError(f"{call} skipped {len(claims) - len(found)} ResourceClaims")
        return found

    def close(self) -> None:
        self._peer.close()


class Plugins(Registered[Plugin]):
    """By name."""

    @property
    def names(self) -> list[str]:
        return [*self._known]

    def get(self, name: str) -> Plugin:
        """Raises PluginError."""
        found = self._known.get(name)
        if found is None:
            raise PluginError(f"DRA driver {name} is not registered")
        return found
