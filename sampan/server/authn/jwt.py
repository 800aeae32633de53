"""JSON Web Tokens as service accounts use them: ES256 and nothing else (RFC 7515, 7518, 7519).

The algorithm is fixed here and never taken from a token, so a token cannot choose how it is
checked. PyJWT and cryptography are imported at the first signature, not at boot (0.1 s).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

# A token of the cluster is about 1 kB; what is longer than this is not looked at.
MAX_TOKEN_BYTES = 16 * 1024
ALGORITHM = "ES256"


class BadToken(Exception):
    """The token is no token of ours; the text says why, for TokenReview."""


class Key:
    """A P-256 private key that signs tokens and checks its own signatures."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _private(self) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(self._path.read_bytes(), password=None)
        if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
            raise ValueError(f"{self._path}: service account keys must be EC keys on P-256")
        return key

    @cached_property
    def id(self) -> str:
        """The key's id as upstream makes it: a hash of its public half."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        der = self._private.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        return encode_part(hashlib.sha256(der).digest())

    def sign(self, claims: dict[str, Any]) -> str:
        """The token that says `claims`."""
        from jwt import PyJWS

        headers = {"kid": self.id, "typ": None}
        return PyJWS().encode(orjson.dumps(claims), self._private, ALGORITHM, headers)

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token this key signed. Times are not looked at. Raises BadToken."""
        from jwt import InvalidTokenError, PyJWS

        header = _decode_object(token.partition(".")[0])
        if header.get("alg") != ALGORITHM or header.get("kid", self.id) != self.id:
            raise BadToken("no matching key")
        try:
            return _object(PyJWS().decode(token, self._private.public_key(), [ALGORITHM]))
        except InvalidTokenError:
            raise BadToken("invalid signature") from None

    def public_jwk(self) -> dict[str, str]:
        """The public half, for /openid/v1/jwks."""
        from jwt.algorithms import ECAlgorithm

        public = ECAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        return {"use": "sig", "kid": self.id, "alg": ALGORITHM, **public}


def peek(token: str) -> dict[str, Any]:
    """The claims of a token, unverified: only to tell whose token it claims to be."""
    if len(token) > MAX_TOKEN_BYTES or token.count(".") != 2:
        raise BadToken("not a JSON web token")
    return _decode_object(token.split(".")[1])


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
