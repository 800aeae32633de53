"""JSON Web Tokens as service accounts use them (RFC 7515, 7518, 7519).

The algorithm is a key's and never taken from a token, so a token cannot choose how it is checked.
PyJWT and cryptography are imported at the first signature, not at boot (0.1 s).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from ..exchange import User

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

log = logging.getLogger("sampan.tokens")

# A token of the cluster is about 1 kB; what is longer than this is not looked at.
MAX_TOKEN_BYTES = 16 * 1024
MAX_KEYS = 16
"""Of a folder: each is tried for a token that names none."""


class BadToken(Exception):
    """The token is no token of ours; the text says why, for TokenReview."""


class Judged(NamedTuple):
    """A user, and until when that need not be asked again; 0: each time."""

    user: User
    until_s: float


class PublicKey:
    """A key that tokens are checked with: P-256 (ES256) or RSA (RS256), as upstream's."""

    def __init__(self, key: EllipticCurvePublicKey | RSAPublicKey) -> None:
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
            self.algorithm = "ES256"
        elif isinstance(key, RSAPublicKey) and key.key_size >= 2048:
            self.algorithm = "RS256"
        else:
            raise ValueError("service account keys must be P-256 or RSA of 2048 bits or more")
        self.key = key
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.id = encode_part(hashlib.sha256(der).digest())
        """A hash of the key, as upstream makes it."""

    def jwk(self) -> dict[str, str]:
        """For /openid/v1/jwks."""
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from jwt.algorithms import ECAlgorithm, RSAAlgorithm

        public = (
            ECAlgorithm.to_jwk(self.key, as_dict=True)
            if isinstance(self.key, EllipticCurvePublicKey)
            else RSAAlgorithm.to_jwk(self.key, as_dict=True)
        )
        public.pop("key_ops", None)
        return {"use": "sig", "kid": self.id, "alg": self.algorithm, **public}


class Keys:
    """One key signs; it and those in a folder check. A key is rotated by making a new one and
    putting the old one's file, or its public half, into the folder until its tokens are over."""

    def __init__(self, signing: Path, folder: Path | None = None) -> None:
        self._signing = signing
        self._folder = folder

    @cached_property
    def _private(self) -> EllipticCurvePrivateKey | RSAPrivateKey:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        return load_pem_private_key(self._signing.read_bytes(), password=None)  # type: ignore[return-value]

    @cached_property
    def signer(self) -> PublicKey:
        try:
            return PublicKey(self._private.public_key())
        except ValueError as error:
            raise ValueError(f"{self._signing}: {error}") from error

    @cached_property
    def _public(self) -> dict[str, PublicKey]:
        """Every key by its id, the signer's first."""
        found = {self.signer.id: self.signer}
        if self._folder is not None and self._folder.is_dir():
            for path in sorted(self._folder.iterdir())[:MAX_KEYS]:
                try:
                    key = PublicKey(_read_public(path))
                except (OSError, ValueError) as error:
                    log.error("%s is no key that can check tokens: %s", path, error)
                    continue
                found.setdefault(key.id, key)
        return found

    def reload(self) -> None:
        """Read the files anew when they are needed next."""
        for name in ("_private", "signer", "_public"):
            self.__dict__.pop(name, None)

    def sign(self, claims: dict[str, Any]) -> str:
        """The token that says `claims`."""
        from jwt import PyJWS

        headers = {"kid": self.signer.id, "typ": None}
        payload = orjson.dumps(claims)
        return PyJWS().encode(payload, self._private, self.signer.algorithm, headers)

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token of one of the keys; times are not looked at. Raises BadToken."""
        from jwt import InvalidTokenError, PyJWS

        header = _decode_object(token.partition(".")[0])
        keys = self._public
        named = header.get("kid") or ""
        if not isinstance(named, str):
            raise BadToken("not a JSON web token")
        candidates = [keys[named]] if named in keys else list(keys.values()) if not named else []
        for key in candidates:
            if header.get("alg") != key.algorithm:
                continue
            try:
                return _object(PyJWS().decode(token, key.key, [key.algorithm]))
            except InvalidTokenError:
                continue
        raise BadToken("invalid signature" if candidates else "no matching key")

    def public_jwks(self) -> list[dict[str, str]]:
        return [key.jwk() for key in self._public.values()]

    def algorithms(self) -> list[str]:
        return sorted({key.algorithm for key in self._public.values()})


def _read_public(path: Path) -> EllipticCurvePublicKey | RSAPublicKey:
    """The public key in a PEM file, be it of a private key, a public one or a certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
        load_pem_public_key,
    )

    data = path.read_bytes()
    if b"PRIVATE KEY" in data:
        return load_pem_private_key(data, password=None).public_key()  # type: ignore[return-value]
    if b"BEGIN CERTIFICATE" in data:
        return x509.load_pem_x509_certificate(data).public_key()  # type: ignore[return-value]
    return load_pem_public_key(data)  # type: ignore[return-value]


def peek(token: str) -> dict[str, Any]:
    """The claims of a token, unverified: only to tell whose token it claims to be."""
    if len(token) > MAX_TOKEN_BYTES or token.count(".") != 2:
        raise BadToken("not a JSON web token")
    return _decode_object(token.split(".")[1])


def peek_header(token: str) -> dict[str, Any]:
    """The header of a token, unverified. Raises BadToken."""
    if len(token) > MAX_TOKEN_BYTES or token.count(".") != 2:
        raise BadToken("not a JSON web token")
    return _decode_object(token.partition(".")[0])


def encode_part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode_part(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadToken("not a JSON web token") from error


def _decode_object(text: str) -> dict[str, Any]:
    return _object(_decode_part(text))


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadToken("not a JSON web token") from error
    if not isinstance(value, dict):
        raise BadToken("not a JSON web token")
    return value
