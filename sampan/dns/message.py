"""DNS messages: bytes to questions, records to bytes (RFC 1035, RFC 6891). Pure.

Only what a server of one zone needs: the question is parsed, answers of others are read just far
enough to copy addresses and to age time-outs. Whatever a stranger sends, parsing ends: a question
may not use compression, and a compressed name may only point backwards.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct


class Kind(IntEnum):
    """Record types."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    ANY = 255


class Code(IntEnum):
    """Response codes."""

    OK = 0
    FORMAT = 1
    SERVER_FAILURE = 2
    NO_NAME = 3
    NOT_IMPLEMENTED = 4
    REFUSED = 5
    BAD_VERSION = 16


QR, AA, TC, RD, RA, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
OPCODE = 0x7800
IN = 1
HEADER = struct.Struct(">HHHHHH")
_TAIL = struct.Struct(">HHIH")
_OPT = struct.Struct(">BHHIH")
_POINTER = 0xC0
# A pointer has fourteen bits.
_FURTHEST = 0x3FFF
_ASKED = b"\xc0\x0c"
_NAME_BYTES = 255
_LABEL_BYTES = 63
_DO = 0x8000
# What a datagram may carry: by RFC 1035 without EDNS; and what we say we take (the DNS flag day's
# value, which is never fragmented) and the most we send to who asks for more.
PLAIN_BYTES, OUR_BYTES, MOST_BYTES = 512, 1232, 4096
# Records a message may have beyond its question before we call it nonsense.
_EXTRA_RECORDS = 16


class Malformed(Exception):
    """Not a question we can answer; `code` is the response, with `id` if it could be read."""

    def __init__(self, code: Code, message_id: int = 0, flags: int = 0) -> None:
        super().__init__(code.name)
        self.code = code
        self.id = message_id
        self.flags = flags

    def response(self) -> bytes:
        flags = QR | RA | (self.flags & (OPCODE | RD)) | (self.code & 15)
        if self.code < 16:
            return HEADER.pack(self.id, flags, 0, 0, 0, 0)
        return HEADER.pack(self.id, flags, 0, 0, 0, 1) + opt_record(self.code)


class Query(NamedTuple):
    """A question. `name` is in lower case, without the closing dot; a dot within a label is
    escaped, so that it can match nothing."""

    id: int
    flags: int
    name: str
    kind: int
    question: bytes
    """As it was asked: name, type and class."""
    edns: int
    """The size of datagram the asker takes; 0 without EDNS."""
    dnssec: bool

    @property
    def datagram_bytes(self) -> int:
        return max(PLAIN_BYTES, min(self.edns, MOST_BYTES))


class Record(NamedTuple):
    owner: str
    kind: int
    ttl_s: int
    data: bytes


class Sections(Struct, frozen=True):
    """What a response says."""

    code: Code = Code.OK
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()


def parse_query(data: bytes) -> Query | None:
    """The question of a message; None for what deserves no answer (too short, or a response).

    Raises Malformed for what does.
    """
    if len(data) < HEADER.size:
        return None
    number, flags, questions, answers, authority, additional = HEADER.unpack_from(data)
    if flags & QR:
        return None
    if flags & OPCODE:
        raise Malformed(Code.NOT_IMPLEMENTED, number, flags)
    if questions != 1 or answers + authority + additional > _EXTRA_RECORDS:
        raise Malformed(Code.FORMAT, number, flags)
    try:
        name, offset = _question_name(data)
        kind, klass = struct.unpack_from(">HH", data, offset)
        offset += 4
        edns, dnssec, version = 0, False, 0
        if additional:
            for record in records_of(data, offset, answers + authority + additional):
                if record.kind == Kind.OPT:
                    edns = max(PLAIN_BYTES, record.klass)
                    dnssec = bool(record.ttl_s & _DO)
                    version = record.ttl_s >> 16 & 0xFF
    except (ValueError, IndexError, struct.error):
        raise Malformed(Code.FORMAT, number, flags) from None
    if version:
        raise Malformed(Code.BAD_VERSION, number, flags)
    if klass not in (IN, 255):
        raise Malformed(Code.REFUSED, number, flags)
    question = data[HEADER.size : offset]
    return Query(number, flags, name, kind, question, edns, dnssec)


def _question_name(data: bytes) -> tuple[str, int]:
    offset = HEADER.size
    labels = []
    while True:
        size = data[offset]
        offset += 1
        if size == 0:
            break
        if size > _LABEL_BYTES or offset + size > len(data) - 4:
            raise ValueError("label")
        labels.append(_label(data[offset : offset + size]))
        offset += size
        if offset - HEADER.size >= _NAME_BYTES:
            raise ValueError("name is too long")
    return ".".join(labels), offset


def _label(raw: bytes) -> str:
    text = raw.decode("latin-1").lower()
    return text.replace("\\", "\\\\").replace(".", "\\.") if "." in text or "\\" in text else text


class RawRecord(NamedTuple):
    """A record of a received message, by its place there."""

    owner_at: int
    kind: int
    klass: int
    ttl_s: int
    ttl_at: int
    data_at: int
    data_bytes: int


def records_of(data: bytes, offset: int, count: int) -> Iterator[RawRecord]:
    """The records from `offset` on. Raises ValueError, IndexError or struct.error."""
    for _ in range(count):
        owner_at = offset
        offset = skip_name(data, offset)
        kind, klass, ttl_s, size = _TAIL.unpack_from(data, offset)
        at = offset + _TAIL.size
        if at + size > len(data):
            raise ValueError("a record is cut off")
        yield RawRecord(owner_at, kind, klass, ttl_s, offset + 4, at, size)
        offset = at + size


def skip_name(data: bytes, offset: int) -> int:
    """Where a name ends; a pointer ends it."""
    while True:
        size = data[offset]
        if size >= _POINTER:
            return offset + 2
        if size > _LABEL_BYTES:
            raise ValueError("label")
        offset += 1 + size
        if size == 0:
            return offset


def read_name(data: bytes, offset: int) -> str:
    """A name with its pointers followed; each must point further back, so that it ends."""
    labels: list[str] = []
    limit, length = offset, 0
    while True:
        size = data[offset]
        if size >= _POINTER:
            offset = (size & 0x3F) << 8 | data[offset + 1]
            if offset >= limit:
                raise ValueError("a pointer that does not point back")
            limit = offset
            continue
        if size == 0:
            return ".".join(labels)
        length += size + 1
        if size > _LABEL_BYTES or length >= _NAME_BYTES or offset + 1 + size > len(data):
            raise ValueError("label")
        labels.append(_label(data[offset + 1 : offset + 1 + size]))
        offset += 1 + size


@lru_cache(maxsize=4096)
def encode_name(name: str) -> bytes:
    """Wire form without compression. Raises ValueError for what is no name."""
    if not name:
        return b"\0"
    out = bytearray()
    for label in name.rstrip(".").split("."):
        raw = label.encode("latin-1")
        if not 0 < len(raw) <= _LABEL_BYTES:
            raise ValueError(f"{name!r} is no DNS name")
        out.append(len(raw))
        out += raw
    out.append(0)
    if len(out) > _NAME_BYTES:
        raise ValueError(f"{name!r} is too long for a DNS name")
    return bytes(out)


def respond(query: Query, sections: Sections, limit: int, *, authoritative: bool = True) -> bytes:
    """The response in at most `limit` bytes; what does not fit is left out and said so (TC)."""
    flags = QR | RA | (query.flags & (RD | CD)) | (sections.code & 15)
    if authoritative:
        flags |= AA
    body = [query.question]
    spare = limit - (_OPT.size if query.edns else 0)
    size = HEADER.size + len(query.question)
    # Names that were there before are pointed at (RFC 1035, section 4.1.4). The question's own
    # stands right behind the header.
    pointers = {query.name: _ASKED}
    counts = []
    for part in (sections.answers, sections.authority, sections.additional):
        fitting = 0
        for record in part:
            owner, kind, ttl_s, data = record
            pointer = pointers.get(owner)
            name = encode_name(owner) if pointer is None else pointer
            encoded = name + _TAIL.pack(kind, IN, ttl_s, len(data)) + data
            if size + len(encoded) > spare:
                # Additional records are a courtesy: without them the answer is still whole.
                if part is not sections.additional:
                    flags |= TC
                break
            if pointer is None and size <= _FURTHEST:
                pointers[owner] = (_POINTER << 8 | size).to_bytes(2, "big")
            size += len(encoded)
            fitting += 1
            body.append(encoded)
        counts.append(fitting)
    if query.edns:
        body.append(opt_record(sections.code, dnssec=query.dnssec))
        counts[2] += 1
    return HEADER.pack(query.id, flags, 1, *counts) + b"".join(body)


def truncate(body: bytes, limit: int) -> bytes:
    """Somebody's response in at most `limit` bytes: as many of its answers as fit, marked as not
    all (TC). Clients that cannot ask over TCP (musl before 1.2.4) do with those. Records only
    point backwards, so that what is left stands by itself. Raises ValueError, IndexError or
    struct.error for what is no response."""
    number, flags, _, answers, authority, additional = HEADER.unpack_from(body)
    end = skip_name(body, HEADER.size) + 4
    opt = b""
    ends = [end]
    for place, item in enumerate(records_of(body, end, answers + authority + additional)):
        after = item.data_at + item.data_bytes
        if place < answers:
            ends.append(after)
        elif item.kind == Kind.OPT:
            opt = body[item.owner_at : after]
    kept = max((n for n, at in enumerate(ends) if at + len(opt) <= limit), default=0)
    head = HEADER.pack(number, flags | TC, 1, kept, 0, 1 if opt else 0)
    return head + body[HEADER.size : ends[kept]] + opt


def opt_record(code: int = 0, *, dnssec: bool = False) -> bytes:
    """Our EDNS record, with the upper bits of the response code."""
    return _OPT.pack(0, Kind.OPT, OUR_BYTES, (code >> 4) << 24 | (_DO if dnssec else 0), 0)


def srv_data(weight: int, port: int, target: str) -> bytes:
    return struct.pack(">HHH", 0, weight, port) + encode_name(target)


def soa_data(zone: str, serial: int, negative_ttl_s: int) -> bytes:
    timers = struct.pack(">IIIII", serial & 0xFFFFFFFF, 7200, 1800, 86400, negative_ttl_s)
    return encode_name(f"ns.dns.{zone}") + encode_name(f"hostmaster.{zone}") + timers


def txt_data(text: str) -> bytes:
    raw = text.encode()
    return bytes([len(raw)]) + raw


def addresses_in(data: bytes, kinds: Iterable[int]) -> list[Record]:
    """The records of these types (of A, AAAA, CNAME) in the answer section of a response."""
    _, _, questions, answers, _, _ = HEADER.unpack_from(data)
    offset = HEADER.size
    for _ in range(questions):
        offset = skip_name(data, offset) + 4
    out = []
    for raw in records_of(data, offset, answers):
        if raw.kind not in kinds:
            continue
        value = data[raw.data_at : raw.data_at + raw.data_bytes]
        if raw.kind == Kind.CNAME:
            value = encode_name(read_name(data, raw.data_at))
        out.append(Record(read_name(data, raw.owner_at), raw.kind, raw.ttl_s, value))
    return out
