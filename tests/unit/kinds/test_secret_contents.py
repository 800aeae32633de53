"""What is said of secrets that hold no login and no key pair, in Go's words."""

from __future__ import annotations

import datetime
from base64 import b64encode
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sampan.api.kinds.core.secretcontents import json_problem, key_pair_problem
from sampan.api.resources import resource


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", ""),
        ('{"auths": {}}', ""),
        ("null", ""),
        ("", "unexpected end of JSON input"),
        ('{"a"', "unexpected end of JSON input"),
        ('{"a": "b', "unexpected end of JSON input"),
        ("hello", "invalid character 'h' looking for beginning of value"),
        ("{a}", "invalid character 'a' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a": 1 2}', "invalid character '2' after object key:value pair"),
        ('{"a": [1 2]}', "invalid character '2' after array element"),
        ("{} x", "invalid character 'x' after top-level value"),
        ("{'a': 1}", r"invalid character '\'' looking for beginning of object key string"),
        ("[]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ("1", "json: cannot unmarshal number into Go value of type map[string]interface {}"),
    ],
)
def test_what_is_no_object(text: str, problem: str) -> None:
    assert json_problem(text.encode()) == problem


@cache
def pair(kind: str = "ec", number: int = 0) -> tuple[bytes, bytes]:
    """A certificate and its key, in PEM."""
    key: Any = (
        ed25519.Ed25519PrivateKey.generate()
        if kind == "ed"
        else ec.generate_private_key(ec.SECP256R1())
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"x{number}")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .sign(key, None if kind == "ed" else hashes.SHA256())
    )
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM), plain


def test_what_is_no_pair() -> None:
    certificate, key = pair()
    assert key_pair_problem(certificate, key) == ""
    assert key_pair_problem(b"", b"") == ("tls: failed to find any PEM data in certificate input")
    assert key_pair_problem(key, certificate) == (
        "tls: failed to find certificate PEM data in certificate input, but did find a private "
        "key; PEM inputs may have been switched"
    )
    assert key_pair_problem(certificate, b"") == "tls: failed to find any PEM data in key input"
    assert key_pair_problem(certificate, certificate) == (
        "tls: found a certificate rather than a key in the PEM for the private key"
    )
    other = key.replace(b"PRIVATE KEY", b"SOMETHING")
    assert key_pair_problem(certificate, other) == (
        'tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input after '
        "skipping PEM blocks of the following types: [SOMETHING]"
    )
    assert key_pair_problem(other, key) == (
        'tls: failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM '
        "blocks of the following types: [SOMETHING]"
    )
    assert key_pair_problem(certificate, pair(number=1)[1]) == (
        "tls: private key does not match public key"
    )
    assert key_pair_problem(certificate, pair("ed")[1]) == (
        "tls: private key type does not match public key type"
    )


def secret(kind: str, **data: bytes) -> dict[str, Any]:
    shown = {key.replace("_", "."): b64encode(value).decode() for key, value in data.items()}
    return {"metadata": {"name": "x"}, "type": kind, "data": shown}


def test_secrets_say_it() -> None:
    rules = resource("secrets").rules
    bad = secret("kubernetes.io/dockerconfigjson", _dockerconfigjson=b"{")
    assert [str(cause) for cause in rules.validate(bad, None)] == [
        'data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": unexpected end of '
        "JSON input"
    ]
    lone = secret("kubernetes.io/tls", tls_crt=pair()[0], tls_key=b"")
    assert rules.validate(lone, None) == []
    assert rules.warnings(lone, None) == ["tls: failed to find any PEM data in key input"]
    assert rules.warnings({**lone, "type": "Opaque"}, None) == []
    for kind, needed in (
        ("kubernetes.io/basic-auth", ["username", "password"]),
        ("kubernetes.io/ssh-auth", ["ssh-privatekey"]),
        ("kubernetes.io/dockercfg", [".dockercfg"]),
    ):
        assert [str(cause) for cause in rules.validate(secret(kind), None)] == [
            f"data[{key}]: Required value" for key in needed
        ]
    token = secret("kubernetes.io/service-account-token")
    assert [str(cause) for cause in rules.validate(token, None)] == [
        "metadata.annotations[kubernetes.io/service-account.name]: Required value"
    ]
    big = secret("Opaque", a=b"x" * (1024 * 1024 + 1))
    assert [str(cause) for cause in rules.validate(big, None)] == [
        "data: Too long: may not be more than 1048576 bytes"
    ]
    frozen = {**secret("Opaque", a=b"x"), "immutable": True}
    assert [str(cause) for cause in rules.validate(secret("Opaque", a=b"y"), frozen)] == [
        f"{field}: Forbidden: field is immutable when `immutable` is set"
        for field in ("immutable", "data")
    ]
