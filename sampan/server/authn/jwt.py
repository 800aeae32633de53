"""JSON Web Tokens as service accounts use them: ES256 and nothing else (RFC 7515, 7518, 7519).

The algorithm is fixed here and never taken from a token, so a token cannot choose how it is
checked. The cryptography library is imported at the first signature, not at boot.
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
COORDINATE_BYTES = 32


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

    @cached_property
    def _header(self) -> str:
        return encode_part(orjson.dumps({"alg": "ES256", "kid": self.id}))

    def sign(self, claims: dict[str, Any]) -> str:
        """The token that says `claims`."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        signed = f"{self._header}.{encode_part(orjson.dumps(claims))}"
        r, s = decode_dss_signature(self._private.sign(signed.encode(), ECDSA(SHA256())))
        raw = r.to_bytes(COORDINATE_BYTES, "big") + s.to_bytes(COORDINATE_BYTES, "big")
        return f"{signed}.{encode_part(raw)}"

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token this key signed. Times are not looked at. Raises BadToken."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        signed, _, signature = token.rpartition(".")
        header = _decode_object(signed.partition(".")[0])
        if header.get("alg") != "ES256" or header.get("kid", self.id) != self.id:
            raise BadToken("no matching key")
        raw = _decode_part(signature)
        if len(raw) != 2 * COORDINATE_BYTES:
            raise BadToken("invalid signature")
        r = int.from_bytes(raw[:COORDINATE_BYTES], "big")
        s = int.from_bytes(raw[COORDINATE_BYTES:], "big")
        public = self._private.public_key()
        try:
            public.verify(encode_dss_signature(r, s), signed.encode(), ECDSA(SHA256()))
        except InvalidSignature:
            raise BadToken("invalid signature") from None
        return _decode_object(signed.partition(".")[2])

    def public_jwk(self) -> dict[str, str]:
        """The public half, for /openid/v1/jwks."""
        numbers = self._private.public_key().public_numbers()
        return {
            "use": "sig",
            "kty": "EC",
            "kid": self.id,
            "crv": "P-256",
            "alg": "ES256",
            "x": encode_part(numbers.x.to_bytes(COORDINATE_BYTES, "big")),
            "y": encode_part(numbers.y.to_bytes(COORDINATE_BYTES, "big")),
        }


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
    try:
        value = orjson.loads(_decode_part(text))
    except orjson.JSONDecodeError as error:
        raise BadToken("not a JSON web token") from error
    if not isinstance(value, dict):
        raise BadToken("not a JSON web token")
    return value
