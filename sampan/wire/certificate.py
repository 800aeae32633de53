"""The subject of a certificate and when it ends, read from its DER bytes.

TLS has already verified the certificate against the cluster's CA; only what Kubernetes gives a
meaning is read here: common name (the user), organizations (the groups), the user's UID, and when
it ends, since a connection may outlive it. That takes a few steps through the ASN.1, which is
cheaper at boot than a whole X.509 library.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

SEQUENCE, OBJECT_ID, VERSION, UTC_TIME = 0x30, 0x06, 0xA0, 0x17
COMMON_NAME = bytes((0x55, 0x04, 0x03))
ORGANIZATION = bytes((0x55, 0x04, 0x0A))
UID = bytes.fromhex("2b0601040183c25302")
"""1.3.6.1.4.1.57683.2 (AllowParsingUserUIDFromCertAuth)."""
# Tags of string types and how their bytes read (X.520 DirectoryString, and IA5String).
STRINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}


class Subject(NamedTuple):
    common_name: str
    organizations: tuple[str, ...]
    expires_s: float
    """Seconds since the epoch."""
    uid: str = ""


class Malformed(ValueError):
    """The bytes are no certificate."""


def read_subject(der: bytes) -> Subject:
    """The common name and organizations of a certificate's subject. Raises Malformed."""
    try:
        return _read(der)
    except (IndexError, StopIteration, ValueError) as error:
        raise Malformed("not an X.509 certificate") from error


def _read(der: bytes) -> Subject:
    certificate = _body(der, SEQUENCE)
    fields = _elements(_body(certificate, SEQUENCE))
    tag, _ = next(fields)
    # Version 1 certificates leave the version out; then the serial number was just read.
    if tag == VERSION:
        next(fields)
    for _skipped in ("signature algorithm", "issuer"):
        next(fields)
    _, validity = next(fields)
    (_, _), (time_tag, not_after) = _elements(validity)
    tag, subject = next(fields)
    if tag != SEQUENCE:
        raise Malformed("not an X.509 certificate")
    common_name, organizations, uid = _read_names(subject)
    return Subject(common_name, organizations, _read_time(time_tag, not_after), uid)


def read_requested(der: bytes) -> tuple[str, tuple[str, ...]]:
    """The common name and organizations a PKCS#10 request asks for. Raises Malformed."""
    try:
        fields = _elements(_body(_body(der, SEQUENCE), SEQUENCE))
        next(fields)  # the version
        tag, subject = next(fields)
        if tag != SEQUENCE:
            raise Malformed("not a certificate request")
        return _read_names(subject)[:2]
    except (IndexError, StopIteration, ValueError) as error:
        raise Malformed("not a certificate request") from error


def _read_names(subject: bytes) -> tuple[str, tuple[str, ...], str]:
    """Common name, organizations and UID of a distinguished name. Raises Malformed for two UIDs."""
    common_name = uid = ""
    organizations = []
    for _, relative in _elements(subject):
        for _, pair in _elements(relative):
            parts = _elements(pair)
            kind_tag, kind = next(parts)
            value_tag, value = next(parts)
            if kind_tag != OBJECT_ID or kind not in (COMMON_NAME, ORGANIZATION, UID):
                continue
            text = value.decode(STRINGS.get(value_tag, "utf-8"))
            if kind == COMMON_NAME:
                common_name = text
            elif kind == ORGANIZATION:
                organizations.append(text)
            elif uid:
                raise Malformed("expected 1 UID, but found multiple")
            else:
                uid = text
    return common_name, tuple(organizations), uid


def _read_time(tag: int, text: bytes) -> float:
    """RFC 5280: UTCTime has two digits of the year, of 1950 to 2049; both end in Z."""
    digits = text.decode("ascii")
    if tag == UTC_TIME:
        digits = ("20" if digits[0] < "5" else "19") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _body(data: bytes, expected: int) -> bytes:
    """The contents of the first element, which must have the tag `expected`."""
    tag, body = next(_elements(data))
    if tag != expected:
        raise Malformed("not an X.509 certificate")
    return body


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and contents of each element in `data`. Raises Malformed at one that is cut off."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            octets = length & 0x7F
            if not 0 < octets <= 4:
                raise Malformed("not DER: an indefinite or huge length")
            length = int.from_bytes(data[at : at + octets], "big")
            at += octets
        if at + length > len(data):
            raise Malformed("not DER: cut off")
        yield tag, data[at : at + length]
        at += length
