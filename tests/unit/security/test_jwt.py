"""Tokens: what we sign others verify, what others forge we refuse."""

from __future__ import annotations

import hmac
from pathlib import Path

import jwt as pyjwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sampan.server.authn.jwt import BadToken, Keys, encode_part, peek

CLAIMS = {"iss": "me", "sub": "system:serviceaccount:a:b", "exp": 2_000_000_000}


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


@pytest.fixture(scope="module")
def private() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def key(tmp_path: Path, private: ec.EllipticCurvePrivateKey) -> Keys:
    return Keys(write_key(tmp_path / "sa.key", private))


def test_what_we_sign_a_library_verifies(key: Keys, private: ec.EllipticCurvePrivateKey) -> None:
    token = key.sign(CLAIMS)
    read = pyjwt.decode(token, private.public_key(), algorithms=["ES256"], issuer="me")
    assert read == CLAIMS
    assert pyjwt.get_unverified_header(token) == {"alg": "ES256", "kid": key.signer.id}
    shown = pyjwt.PyJWK(key.public_jwks()[0])
    assert pyjwt.decode(token, shown, algorithms=["ES256"], issuer="me") == CLAIMS


def test_what_a_library_signs_we_verify(key: Keys, private: ec.EllipticCurvePrivateKey) -> None:
    for _ in range(20):  # short r and s values come up now and then
        token = pyjwt.encode(CLAIMS, private, algorithm="ES256", headers={"kid": key.signer.id})
        assert key.verify(token) == CLAIMS


@pytest.mark.parametrize("kid", [[], ["a"], {"a": 1}, 5])
def test_the_name_of_a_key_may_be_anything_and_is_refused(key: Keys, kid: object) -> None:
    head = encode_part(orjson.dumps({"alg": "ES256", "kid": kid}))
    _, _, rest = key.sign(CLAIMS).partition(".")
    with pytest.raises(BadToken):
        key.verify(f"{head}.{rest}")


def test_another_key_is_refused(key: Keys) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    for headers in ({"kid": key.signer.id}, {}):
        token = pyjwt.encode(CLAIMS, stranger, algorithm="ES256", headers=headers)
        with pytest.raises(BadToken):
            key.verify(token)


def test_the_token_does_not_choose_the_algorithm(
    key: Keys, private: ec.EllipticCurvePrivateKey
) -> None:
    signed = key.sign(CLAIMS)
    payload = signed.split(".")[1]
    none = encode_part(orjson.dumps({"alg": "none", "kid": key.signer.id}))
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    hs256 = f"{encode_part(orjson.dumps({'alg': 'HS256', 'kid': key.signer.id}))}.{payload}"
    mac = encode_part(hmac.digest(public, hs256.encode(), "sha256"))
    with_public = f"{hs256}.{mac}"
    for token in (f"{none}.{payload}.", f"{none}.{payload}.AAAA", with_public):
        with pytest.raises(BadToken):
            key.verify(token)


def test_any_changed_letter_is_refused(key: Keys) -> None:
    token = key.sign(CLAIMS)
    header, payload, signature = token.split(".")
    changed = encode_part(orjson.dumps({**CLAIMS, "sub": "system:serviceaccount:a:admin"}))
    for bad in (
        f"{header}.{changed}.{signature}",
        f"{header}.{payload}.{'A' * len(signature)}",
        f"{header}.{payload}.{signature[:-4]}",
        f"{header}.{payload}",
        f"{header}.{payload}.{signature}.x",
        "",
        "..",
        "a.b.c",
        f"{header}.{payload}.{signature}\n",
    ):
        with pytest.raises(BadToken):
            key.verify(bad)


def test_peek_never_raises_anything_else() -> None:
    for text in ("", "a", "..", "a.b.c", "é.é.é", "a." + encode_part(b"[1]") + ".c", "x" * 20_000):
        with pytest.raises(BadToken):
            peek(text)


def test_keys_of_another_kind_are_refused(tmp_path: Path) -> None:
    for number, key in enumerate(
        (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1()))
    ):
        path = write_key(tmp_path / f"{number}.key", key)
        with pytest.raises(ValueError, match="P-256 or RSA"):
            Keys(path).sign({})


def test_keys_rotate_by_files(tmp_path: Path) -> None:
    """A new key signs, the old one checks as long as its file is in the folder."""
    folder = tmp_path / "keys"
    folder.mkdir()
    old = write_key(tmp_path / "old.key", rsa.generate_private_key(65537, 2048))
    new = write_key(tmp_path / "new.key", ec.generate_private_key(ec.SECP256R1()))
    before, keys = Keys(old), Keys(new, folder)
    token, fresh = before.sign(CLAIMS), keys.sign(CLAIMS)
    with pytest.raises(BadToken):
        keys.verify(token)
    (folder / "old.pem").write_bytes(old.read_bytes())
    (folder / "README").write_text("not a key")
    keys.reload()
    assert keys.verify(token) == keys.verify(fresh) == CLAIMS
    assert keys.algorithms() == ["ES256", "RS256"]
    assert [item["kid"] for item in keys.public_jwks()] == [keys.signer.id, before.signer.id]
    assert not any("d" in item or "p" in item for item in keys.public_jwks())
    # A token without a kid is checked with each key, but with that key's own algorithm.
    bare = pyjwt.encode(CLAIMS, keys._private, "ES256")  # type: ignore[arg-type]
    assert keys.verify(bare) == CLAIMS
    (folder / "old.pem").unlink()
    keys.reload()
    with pytest.raises(BadToken, match="no matching key"):
        keys.verify(token)
