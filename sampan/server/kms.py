"""Keys kept by a KMS plugin (v2.KeyManagementService over a Unix socket), which wraps and unwraps
the seeds of `store.envelope`; secrets themselves never go to it.

The plugin is asked while the store is opened, once for each seed, and to wrap a new seed; then a
task asks every minute which key it uses, and takes a new seed when that has changed. A plugin that
is away after the start stops nothing: what is in memory is served, and the present seed seals.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.aio.clock import Clock
from sampan.aio.grpc import Peer, RpcError
from sampan.store.encryption import Unreadable
from sampan.store.envelope import PAIRS, SEED_BYTES, Envelope, Wrapped
from sampan.wire.messages import BYTES, TEXT, Schema, decode, encode
from sampan.wire.protobuf import ProtobufError

if TYPE_CHECKING:
    from sampan.store.engine import Engine

    from .encryption import Configured

log = logging.getLogger("sampan.server")

SERVICE = "/v2.KeyManagementService/"
CALLS: dict[str, tuple[Schema, Schema]] = {
    "Status": ({}, {"version": (1, TEXT), "healthz": (2, TEXT), "key_id": (3, TEXT)}),
    "Encrypt": (
        {"plaintext": (1, BYTES), "uid": (2, TEXT)},
        {"ciphertext": (1, BYTES), "key_id": (2, TEXT), "annotations": (3, PAIRS)},
    ),
    "Decrypt": (
        {
            "ciphertext": (1, BYTES),
            "uid": (2, TEXT),
            "key_id": (3, TEXT),
            "annotations": (4, PAIRS),
        },
        {"plaintext": (1, BYTES)},
    ),
}
VERSIONS = ("v2", "v2beta1")
OK = "ok"
TIMEOUT_S = 3.0
"""Of a call, unless the configuration says otherwise; as upstream."""
START_S = 30.0
"""How long a start waits for a plugin: it may be started at the same time."""
PAUSE_S = 0.5
HEALTHY_S, UNHEALTHY_S = 60.0, 10.0
"""Between two questions for the key in use, as upstream."""
KEY_ID_MAX, WRAPPED_MAX, ANNOTATIONS_MAX = 1024, 1024, 32 * 1024
"""Bytes of what a plugin may answer, as upstream: it is stored with every value."""


class Plugin:
    """One plugin, and the provider that seals by it."""

    def __init__(self, name: str, socket: Path, timeout_s: float = TIMEOUT_S) -> None:
        self.name = name
        self.provider = Envelope(name, self._unwrap)
        self.problem = ""
        """Why it is not well; "" while it is."""
        self._socket = socket
        self._timeout_s = timeout_s

    def begin(self, wait_s: float = START_S) -> None:
        """Get the first seed, before anything is sealed. Raises Unreadable when the plugin does
        not answer for `wait_s`."""
        until_s = time.monotonic() + wait_s
        while True:
            try:
                self.provider.use(*_at_once(self._wrap))
                return
            except Unreadable:
                if time.monotonic() >= until_s:
                    raise
                time.sleep(PAUSE_S)

    async def look(self) -> bool:
        """Take a new seed if the plugin's key has changed; whether it has. Raises Unreadable."""
        if await self._key_id() == self.provider.key_id:
            return False
        self.provider.use(*await self._wrap())
        return True

    async def _wrap(self) -> tuple[bytes, Wrapped]:
        await self._key_id()
        seed = os.urandom(SEED_BYTES)
        answer = await self._call("Encrypt", {"plaintext": seed, "uid": _uid()})
        annotations = {item["key"]: item["value"] for item in answer["annotations"]}
        size = sum(len(key.encode()) + len(value) for key, value in annotations.items())
        for what, found, most in (
            ("ciphertext", len(answer["ciphertext"]), WRAPPED_MAX),
            ("key_id", len(answer["key_id"].encode()), KEY_ID_MAX),
            ("annotations", max(size, 1), ANNOTATIONS_MAX),
        ):
            if not 0 < found <= most:
                raise Unreadable(
                    f"KMS plugin {self.name}: {what} of {found} bytes, not 1 to {most}"
                )
        return seed, Wrapped(answer["key_id"], answer["ciphertext"], annotations)

    def _unwrap(self, wrapped: Wrapped) -> bytes:
        pairs = [{"key": key, "value": value} for key, value in wrapped.annotations.items()]
        message = {
            "ciphertext": wrapped.seed,
            "uid": _uid(),
            "key_id": wrapped.key_id,
            "annotations": pairs,
        }
        plain: bytes = _at_once(lambda: self._call("Decrypt", message))["plaintext"]
        return plain

    async def _key_id(self) -> str:
        """The key that the plugin uses. Raises Unreadable for one that is not well."""
        answer = await self._call("Status", {})
        key_id: str = answer["key_id"]
        if answer["version"] not in VERSIONS or answer["healthz"] != OK or not key_id:
            raise Unreadable(
                f"KMS plugin {self.name} is not well: version {answer['version']!r}, healthz"
                f" {answer['healthz']!r}, key_id {key_id!r}"
            )
        return key_id

    async def _call(self, name: str, message: dict[str, Any]) -> dict[str, Any]:
        asked, answered = CALLS[name]
        peer = Peer(self._socket)
        try:
            raw = await peer.call(SERVICE + name, encode(asked, message), self._timeout_s)
            return decode(answered, raw)
        except (RpcError, ProtobufError) as error:
            raise Unreadable(f"KMS plugin {self.name}: {name}: {error}") from error
        finally:
            peer.close()


def _uid() -> str:
    from uuid import uuid4

    return str(uuid4())


def _at_once(call: Callable[[], Any]) -> Any:
    """What a call answers, in a loop and thread of its own: the store is opened by synchronous
    code, before there is anything else to do."""
    with ThreadPoolExecutor(1, "kms") as pool:
        return pool.submit(lambda: asyncio.run(call())).result()


def checks_of(codec: Configured) -> list[tuple[str, Callable[[object], str]]]:
    """Health checks, named as upstream's."""
    return [
        (f"kms-provider-{at}", partial(_problem_of, plugin))
        for at, plugin in enumerate(codec.plugins)
    ]


def _problem_of(plugin: Plugin, server: object) -> str:
    return plugin.problem


async def follow(codec: Configured, store: Engine, clock: Clock) -> None:
    """Ask again and again, until cancelled."""
    while True:
        unwell = any([not await look(plugin, codec, store) for plugin in codec.plugins])
        await clock.sleep(UNHEALTHY_S if unwell else HEALTHY_S)


async def look(plugin: Plugin, codec: Configured, store: Engine) -> bool:
    """Ask one plugin; after a change of its key, an update of any value writes it anew. Is the
    plugin well?"""
    try:
        changed = await plugin.look()
    except Unreadable as error:
        if str(error) != plugin.problem:
            log.error("%s", error)
        plugin.problem = str(error)
        return False
    plugin.problem = ""
    if changed:
        log.info("KMS plugin %s uses another key: %s", plugin.name, plugin.provider.key_id)
        store.outdate(lambda key: codec.is_of(key, plugin.provider))
    return True
