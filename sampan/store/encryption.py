"""Values as they are stored: encrypted, laid out as upstream's API server lays them out in etcd.

A stored value begins with `k8s:enc:MODE:v1:KEY NAME:`. Behind that, aesgcm has a random nonce and
the sealed value, with the storage key as authenticated data (so that a value moved to another key
does not open); aescbc has a random vector and the padded value, which proves nothing about it;
secretbox has a random nonce and the sealed value (XSalsa20 and Poly1305, without authenticated
data). Without the mark, a value is plain. Keys that somebody else keeps are in `envelope`.

Nothing here does I/O; `cryptography` and `nacl` are imported with the first key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

MARK = b"k8s:enc:"
"""What every encrypted value begins with; no JSON does."""
NONCE_BYTES = 12
BLOCK_BYTES = 16


class Unreadable(ValueError):
    """A stored value that no key opens; the text says why."""


class Codec(Protocol):
    """How values become what is stored, and back."""

    def seal(self, key: str, value: bytes) -> bytes: ...

    def open(self, key: str, data: bytes) -> tuple[bytes, bool]:
        """(value, whether it would be stored otherwise now). Raises Unreadable."""
        ...

    def describe(self, key: str) -> str:
        """Which resource a storage key is of, for messages."""
        ...


class Provider(Protocol):
    """One key of one mode."""

    prefix: bytes

    def seal(self, key: str, value: bytes) -> bytes: ...

    def open(self, key: str, data: bytes) -> bytes:
        """Raises Unreadable."""
        ...

    def outdated(self, data: bytes) -> bool:
        """Would a value of this provider's be sealed by another key now? Raises Unreadable."""
        ...


class _Lasting:
    """A key that is the same as long as it is configured."""

    def outdated(self, data: bytes) -> bool:
        return False


class Identity(_Lasting):
    """Values as they are."""

    prefix = b""

    def seal(self, key: str, value: bytes) -> bytes:
        return value

    def open(self, key: str, data: bytes) -> bytes:
        if data.startswith(MARK):
            raise Unreadable("it is encrypted, and no configured key is the one")
        return data


class AesGcm(_Lasting):
    """AES-GCM with random nonces: upstream asks to change the key every 200,000 writes."""

    def __init__(self, name: str, secret: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.prefix = b"%saesgcm:v1:%s:" % (MARK, name.encode())
        self._cipher = AESGCM(secret)
        self._refused = InvalidTag

    def seal(self, key: str, value: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return self.prefix + nonce + self._cipher.encrypt(nonce, value, key.encode())

    def open(self, key: str, data: bytes) -> bytes:
        start = len(self.prefix)
        nonce, sealed = data[start : start + NONCE_BYTES], data[start + NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, sealed, key.encode())
        except (self._refused, ValueError):
            raise Unreadable(
                "its key is another, or the value was changed or is of another object"
            ) from None


class AesCbc(_Lasting):
    """AES-CBC with PKCS#7 padding. It hides values and does not protect them from change."""

    def __init__(self, name: str, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import algorithms

        self.prefix = b"%saescbc:v1:%s:" % (MARK, name.encode())
        self._algorithm = algorithms.AES(secret)

    def seal(self, key: str, value: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, modes

        vector = os.urandom(BLOCK_BYTES)
        missing = BLOCK_BYTES - len(value) % BLOCK_BYTES
        cipher = Cipher(self._algorithm, modes.CBC(vector)).encryptor()
        return self.prefix + vector + cipher.update(value + bytes((missing,)) * missing)

    def open(self, key: str, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, modes

        start = len(self.prefix)
        vector, sealed = data[start : start + BLOCK_BYTES], data[start + BLOCK_BYTES :]
        if not sealed or len(sealed) % BLOCK_BYTES:
            raise Unreadable("its length is not one of AES-CBC")
        padded = Cipher(self._algorithm, modes.CBC(vector)).decryptor().update(sealed)
        missing = padded[-1]
        if not 0 < missing <= BLOCK_BYTES or padded[-missing:] != bytes((missing,)) * missing:
            raise Unreadable("its key is another, or the value was changed")
        return padded[:-missing]


class Secretbox(_Lasting):
    """NaCl's secretbox: its nonces are long enough to be random for ever."""

    def __init__(self, name: str, secret: bytes) -> None:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox

        self.prefix = b"%ssecretbox:v1:%s:" % (MARK, name.encode())
        self._box = SecretBox(secret)
        self._refused = CryptoError

    def seal(self, key: str, value: bytes) -> bytes:
        return self.prefix + self._box.encrypt(value)

    def open(self, key: str, data: bytes) -> bytes:
        try:
            return self._box.decrypt(data[len(self.prefix) :])
        except (self._refused, ValueError):
            raise Unreadable("its key is another, or the value was changed") from None


class Chain:
    """The keys of some resources in order: the first writes, each reads what is its own."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._providers = tuple(providers)
        self.writer = providers[0]
        self.seal = self.writer.seal

    def open(self, key: str, data: bytes) -> tuple[bytes, bool]:
        """(value, whether another than the first key wrote it). Raises Unreadable."""
        why = ""
        for position, provider in enumerate(self._providers):
            if data.startswith(provider.prefix):
                try:
                    value = provider.open(key, data)
                    return value, position > 0 or provider.outdated(data)
                except Unreadable as error:
                    # The same name may have stood for another secret: the next may be it. The
                    # first says most; `identity` behind it knows only that the value is encrypted.
                    why = why or str(error)
        raise Unreadable(why or "no configured key is the one it is encrypted with")


PLAIN = Chain((Identity(),))


class Encryption:
    """A codec that chooses the chain by the storage key."""

    def __init__(
        self, chain_of: Callable[[str], Chain], describe: Callable[[str], str] = str
    ) -> None:
        self._chain_of = chain_of
        self._describe = describe

    def seal(self, key: str, value: bytes) -> bytes:
        return self._chain_of(key).seal(key, value)

    def open(self, key: str, data: bytes) -> tuple[bytes, bool]:
        return self._chain_of(key).open(key, data)

    def describe(self, key: str) -> str:
        return self._describe(key)
