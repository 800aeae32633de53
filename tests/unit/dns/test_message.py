"""Bytes: what is parsed, what is refused, and that nothing a stranger sends does more than that.

dnslib, an independent implementation, is the oracle for what we write.
"""

from __future__ import annotations

import contextlib
import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.dns.message import (
    HEADER,
    Code,
    Kind,
    Malformed,
    Query,
    Record,
    Sections,
    addresses_in,
    encode_name,
    parse_query,
    read_name,
    records_of,
    respond,
    skip_name,
    soa_data,
    srv_data,
    truncate,
    txt_data,
)

QUESTION = dnslib.DNSRecord.question("Web.Ns.svc.cluster.local", "A").pack()


def asked(data: bytes) -> Query:
    query = parse_query(data)
    assert query is not None
    return query


def head(flags: int = 0x0100, questions: int = 1, additional: int = 0) -> bytes:
    return HEADER.pack(7, flags, questions, 0, 0, additional)


def test_a_question_is_read_and_kept_as_it_was_written() -> None:
    query = asked(QUESTION)
    assert (query.name, query.kind, query.edns) == ("web.ns.svc.cluster.local", Kind.A, 0)
    assert query.question == QUESTION[12:]
    assert query.datagram_bytes == 512


def test_edns_is_read() -> None:
    message = dnslib.DNSRecord.question("a.b", "AAAA")
    message.add_ar(dnslib.EDNS0(flags="do", udp_len=1400))
    query = asked(message.pack())
    assert (query.edns, query.dnssec, query.datagram_bytes) == (1400, True, 1400)
    reply = dnslib.DNSRecord.parse(respond(query, Sections(), 1400))
    assert reply.ar[0].rtype == Kind.OPT


@pytest.mark.parametrize("size", range(12))
def test_too_short_for_an_answer(size: int) -> None:
    assert parse_query(QUESTION[:size]) is None


def test_a_response_gets_no_answer() -> None:
    assert parse_query(head(0x8100) + QUESTION[12:]) is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (head(0x2800) + QUESTION[12:], Code.NOT_IMPLEMENTED),
        (head(questions=0), Code.FORMAT),
        (head(questions=2) + QUESTION[12:] * 2, Code.FORMAT),
        (head(additional=1000) + QUESTION[12:], Code.FORMAT),
        (head(), Code.FORMAT),
        (QUESTION[:-1], Code.FORMAT),
        (QUESTION[:20], Code.FORMAT),
        (head() + b"\xc0\x0c\0\1\0\1", Code.FORMAT),
        (head() + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", Code.FORMAT),
        (head() + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", Code.FORMAT),
        (head(additional=1) + QUESTION[12:] + b"\xc0", Code.FORMAT),
        (head(additional=1) + QUESTION[12:] + b"\0\0\x29\0\0\0\1\0\0\0\0", Code.BAD_VERSION),
        (head() + QUESTION[12:-2] + b"\0\3", Code.REFUSED),
    ],
)
def test_nonsense_is_refused_with_the_right_code(data: bytes, code: Code) -> None:
    with pytest.raises(Malformed) as error:
        parse_query(data)
    assert error.value.code == code
    reply = dnslib.DNSRecord.parse(error.value.response())
    assert reply.header.id == int.from_bytes(data[:2], "big")
    assert reply.header.qr


def test_a_dot_inside_a_label_matches_no_name_of_ours() -> None:
    name = b"\x06web.ns\x03svc\x07cluster\x05local\0"
    assert asked(head() + name + b"\0\1\0\1").name == "web\\.ns.svc.cluster.local"


def test_compressed_names_end() -> None:
    loop = bytes(12) + b"\xc0\x0c"
    with pytest.raises(ValueError, match="back"):
        read_name(loop, 12)
    forward = bytes(12) + b"\xc0\x0e\x01a\0"
    with pytest.raises(ValueError, match="back"):
        read_name(forward, 12)
    mutual = bytes(12) + b"\x01a\xc0\x10\x01b\xc0\x0c"
    with pytest.raises(ValueError, match="back"):
        read_name(mutual, 16)
    assert read_name(bytes(12) + b"\x01a\0\x01b\xc0\x0c", 15) == "b.a"


def test_responses_read_by_another_implementation() -> None:
    query = asked(dnslib.DNSRecord.question("x.y", "SRV").pack())
    sections = Sections(
        Code.OK,
        (Record("x.y", Kind.SRV, 5, srv_data(50, 8080, "a.x.y")),),
        (Record("y", Kind.SOA, 5, soa_data("y", 1 << 40, 5)),),
        (Record("a.x.y", Kind.A, 5, bytes([10, 0, 0, 1])),),
    )
    reply = dnslib.DNSRecord.parse(respond(query, sections, 512))
    assert str(reply.rr[0].rdata) == "0 50 8080 a.x.y."
    assert str(reply.ar[0].rdata) == "10.0.0.1"
    assert reply.auth[0].rdata.times[0] == 0
    assert (reply.header.aa, reply.header.ra, reply.header.rd) == (1, 1, 1)


def test_what_does_not_fit_is_cut_at_a_record_and_said() -> None:
    query = asked(QUESTION)
    records = tuple(
        Record(query.name, Kind.A, 5, bytes([10, 0, n >> 8, n & 255])) for n in range(100)
    )
    data = respond(query, Sections(answers=records), 512)
    assert len(data) <= 512
    reply = dnslib.DNSRecord.parse(data)
    assert reply.header.tc
    assert len(reply.rr) == (512 - 12 - len(query.question)) // 16
    whole = dnslib.DNSRecord.parse(respond(query, Sections(answers=records), 65535))
    assert not whole.header.tc
    assert len(whole.rr) == 100
    extra = Sections(answers=records[:1], additional=records)
    assert not dnslib.DNSRecord.parse(respond(query, extra, 512)).header.tc


def test_an_owner_is_written_once() -> None:
    """What is behind an alias has a name of its own: written out each time, fewer would fit."""
    query = asked(QUESTION)
    alias = Record(query.name, Kind.CNAME, 5, encode_name("a.long.name.somewhere.else"))
    found = [
        Record("a.long.name.somewhere.else", Kind.A, 5, bytes([10, 0, 0, n])) for n in range(9)
    ]
    data = respond(query, Sections(answers=(alias, *found)), 512)
    assert data.count(b"somewhere") == 2
    reply = dnslib.DNSRecord.parse(data)
    assert {str(item.rname) for item in reply.rr[1:]} == {"a.long.name.somewhere.else."}
    # Pointers reach so far and no further.
    many = [Record(f"n{n}.far", Kind.TXT, 5, txt_data("x" * 250)) for n in range(99)]
    whole = dnslib.DNSRecord.parse(respond(query, Sections(answers=(*many, *many)), 65535))
    assert [str(item.rname) for item in whole.rr] == 2 * [f"n{n}.far." for n in range(99)]


def test_what_others_say_is_cut_at_a_record_too() -> None:
    message = dnslib.DNSRecord.question("big.example").reply()
    for number in range(60):
        message.add_answer(*dnslib.RR.fromZone(f"big.example 60 A 192.0.2.{number}"))
    message.add_auth(*dnslib.RR.fromZone("example 60 NS ns.example"))
    message.add_ar(dnslib.EDNS0(udp_len=4096))
    cut = truncate(message.pack(), 512)
    assert 490 < len(cut) <= 512
    reply = dnslib.DNSRecord.parse(cut)
    assert reply.header.tc
    assert not reply.auth
    assert [item.rtype for item in reply.ar] == [Kind.OPT]
    assert len(reply.rr) == (512 - 12 - 17 - 11) // 16
    assert not dnslib.DNSRecord.parse(truncate(message.pack(), 40)).rr
    for nonsense in (b"", message.pack()[:100], HEADER.pack(1, 0, 1, 1, 0, 0)):
        with pytest.raises((ValueError, IndexError, struct.error)):
            truncate(nonsense, 40)


@pytest.mark.parametrize("name", ["a..b", "a" * 64, ".".join(["a" * 60] * 5), "\u4e16"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError):
        encode_name(name)


def test_addresses_of_others_answers() -> None:
    message = dnslib.DNSRecord.question("a.example", "A").reply()
    message.add_answer(*dnslib.RR.fromZone("a.example 60 CNAME b.a.example"))
    message.add_answer(*dnslib.RR.fromZone("b.a.example 60 A 192.0.2.1"))
    assert addresses_in(message.pack(), (Kind.A, Kind.CNAME)) == [
        Record("a.example", Kind.CNAME, 60, encode_name("b.a.example")),
        Record("b.a.example", Kind.A, 60, bytes([192, 0, 2, 1])),
    ]


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 0xFFFF), st.integers(0, 3), st.integers(0, 20))
def test_no_bytes_do_more_than_be_refused(body: bytes, flags: int, one: int, two: int) -> None:
    data = HEADER.pack(1, flags, one, 0, 0, two) + body
    with contextlib.suppress(Malformed):
        query = parse_query(data)
        if query is not None:
            respond(query, Sections(), query.datagram_bytes)
    for read in (
        lambda: skip_name(data, 12),
        lambda: read_name(data, 12),
        lambda: list(records_of(data, 12, two)),
        lambda: addresses_in(data, (Kind.A, Kind.CNAME)),
    ):
        with contextlib.suppress(ValueError, IndexError, struct.error):
            read()
