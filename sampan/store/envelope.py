"""Values sealed by keys that somebody else keeps, laid out as upstream's KMS v2 lays them out.

Behind `k8s:enc:kms:v2:NAME:` stands a message with the sealed value and the seed of its key, which
the key's keeper has wrapped. Each value has a key of its own, made of the seed and 32 random bytes
(HKDF), so that a seed never wears out (KEP-3299).

Nothing here does I/O but what `unwrap` does.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from sampan.wire.messages import BYTES, INT, TEXT, Schema, decode, encode
from sampan.wire.protobuf import ProtobufError

from .encryption import MARK, NONCE_BYTES, Unreadable

PAIRS: list[Schema] = [{"key": (1, TEXT), "value": (2, BYTES)}]
SEALED: Schema = {
    "data": (1, BYTES),
    "key_id": (2, TEXT),
    "seed": (3, BYTES),
    "annotations": (4, PAIRS),
    "kind": (5, INT),
}
KEY, SEED = 0, 1
"""What is wrapped: the key itself, or a seed that keys are derived from."""
SEED_BYTES = INFO_BYTES = 32
REMEMBERED = 1024
"""Unwrapped seeds; the oldest goes first. There is one for each start of a server and each change
of the key."""


class Wrapped(Struct, frozen=True):
    """A seed as its keeper gave it back."""

    key_id: str
    """The keeper's name for the key that wrapped it."""
    seed: bytes
    annotations: Mapping[str, bytes]


class Envelope:
    """One keeper of keys: a provider of `encryption`. `use` must come before `seal`."""

    def __init__(self, name: str, unwrap: Callable[[Wrapped], bytes]) -> None:
        """`unwrap` gives a seed in plain; it raises Unreadable."""
        self.prefix = b"%skms:v2:%s:" % (MARK, name.encode())
        self._unwrap = unwrap
        self._seed = b""
        self._tail = b""
        self.key_id = ""
        self._known: dict[bytes, bytes] = {}

    def use(self, seed: bytes, wrapped: Wrapped) -> None:
        """Seal by this seed from now on."""
        self._seed = seed
        self.key_id = wrapped.key_id
        pairs = [{"key": key, "value": value} for key, value in wrapped.annotations.items()]
        rest = {"key_id": wrapped.key_id, "seed": wrapped.seed, "annotations": pairs, "kind": SEED}
        self._tail = encode(SEALED, rest)
        self._remember(wrapped.seed, seed)

    def seal(self, key: str, value: bytes) -> bytes:
        info = os.urandom(INFO_BYTES)
        nonce = os.urandom(NONCE_BYTES)
        cipher = _cipher(_derive(self._seed, info))
        data = info + nonce + cipher.encrypt(nonce, value, key.encode())
        return self.prefix + encode(SEALED, {"data": data}) + self._tail

    def open(self, key: str, data: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        found = self._read(data)
        sealed, seed = found["data"], self._find(found)
        if found["kind"] == SEED:
            seed, sealed = _derive(seed, sealed[:INFO_BYTES]), sealed[INFO_BYTES:]
        try:
            nonce = sealed[:NONCE_BYTES]
            value: bytes = _cipher(seed).decrypt(nonce, sealed[NONCE_BYTES:], key.encode())
        except (InvalidTag, ValueError):
            raise Unreadable("the value was changed or is of another object") from None
        return value

    def outdated(self, data: bytes) -> bool:
        """Was it wrapped by another key than the keeper's present one?"""
        return bool(self.key_id) and self._read(data)["key_id"] != self.key_id

    def _read(self, data: bytes) -> dict[str, Any]:
        try:
            found = decode(SEALED, data[len(self.prefix) :])
        except ProtobufError as error:
            raise Unreadable(f"its envelope is damaged: {error}") from None
        if found["kind"] not in (KEY, SEED):
            raise Unreadable(f"its envelope is of an unknown kind: {found['kind']}")
        return found

    def _find(self, found: dict[str, Any]) -> bytes:
        seed = self._known.get(found["seed"])
        if seed is None:
            annotations = {item["key"]: item["value"] for item in found["annotations"]}
            seed = self._unwrap(Wrapped(found["key_id"], found["seed"], annotations))
            self._remember(found["seed"], seed)
        return seed

    def _remember(self, wrapped: bytes, seed: bytes) -> None:
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[wrapped] = seed


def _derive(seed: bytes, info: bytes) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869): one block is as long as the key."""
    return hmac.digest(seed, info + b"\x01", "sha256")


def _cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key)
    except ValueError as error:
        raise Unreadable(f"what its keeper unwrapped is no key: {error}") from None
