"""What secrets hold, as upstream looks at it: registry logins and TLS key pairs.

The words are those of Go's encoding/json and crypto/tls, which upstream passes on. Contents are
never part of them beyond one character.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode

from ...fields import quote

CUT_OFF = "unexpected end of JSON input"
PLACES = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes":
        "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
}  # fmt: skip
"""What Go's decoder says where Python's says the key."""
GO_KINDS = {list: "array", str: "string", bool: "bool", int: "number", float: "number"}

_BLOCK = re.compile(rb"-----BEGIN ([^\n]*?)-----\s(.*?)-----END \1-----", re.DOTALL)


def contents(text: str | None) -> bytes:
    """The bytes of a value of `data`; none if it is no base64."""
    try:
        return b64decode(text or "")
    except binascii.Error:
        return b""


def json_problem(data: bytes) -> str:
    """Why `data` is no JSON object, "" if it is one."""
    text = data.decode(errors="replace")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return _syntax_problem(text, error)
    except RecursionError:
        return "exceeded max depth"
    if value is None or isinstance(value, dict):
        return ""
    kind = GO_KINDS[type(value)]
    return f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"


def _syntax_problem(text: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(text) or error.msg.startswith("Unterminated"):
        return CUT_OFF
    place = PLACES.get(error.msg)
    if "escape" in error.msg:
        place = "in string escape code"
    if place is None:
        place = "after object key:value pair" if _in_object(text, error.pos) else (
            "after array element"
        )  # fmt: skip
    char = text[error.pos]
    shown = {"'": r"'\''", '"': "'\"'"}.get(char) or f"'{quote(char)[1:-1]}'"
    return f"invalid character {shown} {place}"


def _in_object(text: str, position: int) -> bool:
    """Is the innermost bracket that is open there a brace?"""
    opened: list[str] = []
    for found in re.finditer(r'"(?:[^"\\]|\\.)*"|[][{}]', text[:position]):
        sign = found.group()
        if sign in "[{":
            opened.append(sign)
        elif sign in "]}" and opened:
            opened.pop()
    return opened[-1:] == ["{"]


def key_pair_problem(certificate: bytes, key: bytes) -> str:
    """Why a certificate and a key are no pair (tls.X509KeyPair), "" if they are."""
    found, skipped = [], []
    for kind, body in _blocks(certificate):
        if kind == "CERTIFICATE":
            found.append(body)
        else:
            skipped.append(kind)
    if not found:
        return "tls: failed to find " + _no_certificate(skipped)
    skipped = []
    for kind, body in _blocks(key):
        if kind == "PRIVATE KEY" or kind.endswith(" PRIVATE KEY"):
            return _mismatch(found[0], body)
        skipped.append(kind)
    if not skipped:
        return "tls: failed to find any PEM data in key input"
    if skipped == ["CERTIFICATE"]:
        return "tls: found a certificate rather than a key in the PEM for the private key"
    return (
        'tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input after '
        f"skipping PEM blocks of the following types: [{' '.join(skipped)}]"
    )


def _no_certificate(skipped: list[str]) -> str:
    if not skipped:
        return "any PEM data in certificate input"
    if len(skipped) == 1 and skipped[0].endswith("PRIVATE KEY"):
        return (
            "certificate PEM data in certificate input, but did find a private key; PEM inputs "
            "may have been switched"
        )
    return (
        '"CERTIFICATE" PEM block in certificate input after skipping PEM blocks of the following '
        f"types: [{' '.join(skipped)}]"
    )


def _blocks(data: bytes) -> list[tuple[str, bytes]]:
    """The PEM blocks, without those that hold no base64."""
    out = []
    for kind, body in _BLOCK.findall(data):
        # Headers, where there are any, end with an empty line.
        text = body.rpartition(b"\n\n")[2] if b":" in body else body
        try:
            out.append((kind.decode(errors="replace"), b64decode(b"".join(text.split()))))
        except binascii.Error:
            continue
    return out


def _mismatch(certificate: bytes, key: bytes) -> str:
    # Only secrets of this one type need it: it is not light to import.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_der_private_key,
    )

    try:
        public = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        return "x509: malformed certificate"
    try:
        private = load_der_private_key(key, None)
    except (ValueError, TypeError):
        return "tls: failed to parse private key"
    # Keys of one algorithm are of one class.
    mine = private.public_key()
    if type(mine) is not type(public):
        return "tls: private key type does not match public key type"
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if mine.public_bytes(*form) != public.public_bytes(*form):
        return "tls: private key does not match public key"
    return ""
