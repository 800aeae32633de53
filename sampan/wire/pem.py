"""PEM blocks in a text (RFC 7468), found as Go's encoding/pem finds them: what stands between the
blocks is passed over, and so is a block that is broken. Pure.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

LINE_LENGTH = 64
REQUEST = "CERTIFICATE REQUEST"
BLOCK = re.compile(
    r"^-----BEGIN (?P<label>[^\r\n]*?)-----[ \t]*\r?\n"
    r"(?P<body>(?:(?!-----(?:BEGIN|END) ).*\n)*?)"
    r"-----END (?P=label)-----[ \t]*\r?$",
    re.MULTILINE,
)


class Block(Struct, frozen=True):
    """One block: its label (CERTIFICATE), its headers, and the bytes it armours."""

    label: str
    data: bytes
    headers: Mapping[str, str] = {}


def read_blocks(text: str) -> Iterator[Block]:
    """Every whole block, in order."""
    for found in BLOCK.finditer(text):
        headers: dict[str, str] = {}
        lines = found["body"].splitlines()
        while lines and ":" in lines[0]:
            key, _, value = lines.pop(0).partition(":")
            headers[key.strip()] = value.strip()
        try:
            data = base64.b64decode("".join("".join(lines).split()), validate=True)
        except binascii.Error:
            continue
        yield Block(found["label"], data, headers)


def read_request(text: bytes) -> bytes:
    """The PKCS#10 request in a text: its first block, as Kubernetes reads it. Raises ValueError.

    Who checks a text and who signs it must read the same block of it: all ask here.
    """
    block = next(read_blocks(text.decode("latin-1")), None)
    if block is None or block.label != REQUEST:
        raise ValueError(f"PEM block type must be {REQUEST}")
    return block.data


def write_block(label: str, data: bytes) -> str:
    """The armoured text, without headers."""
    text = base64.b64encode(data).decode()
    lines = [text[at : at + LINE_LENGTH] for at in range(0, len(text), LINE_LENGTH)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
