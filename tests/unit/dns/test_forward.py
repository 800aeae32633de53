"""Forwarding against name servers made here, on loopback sockets."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import dnslib
import pytest

from sampan.dns import forward
from sampan.dns.forward import Forwarder, servers_in
from sampan.dns.message import Kind, Query, parse_query
from sampan.dns.routes import Routes
from tests.kit.clock import FakeClock
from tests.kit.sockets import free_pair

HINFO = 13
Reply = Callable[[dnslib.DNSRecord], bytes | None]


def address_of(message: dnslib.DNSRecord) -> bytes:
    reply = message.reply()
    reply.add_answer(dnslib.RR(message.q.qname, Kind.A, ttl=20, rdata=dnslib.A("192.0.2.1")))
    return bytes(reply.pack())


class Upstream:
    """A name server at one loopback address; counts what it is asked."""

    def __init__(self, reply: Reply = address_of) -> None:
        self.reply = reply
        self.asked: list[dnslib.DNSRecord] = []
        self.tried: list[str] = []
        self.arrived = asyncio.Event()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        pass

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        message = dnslib.DNSRecord.parse(data)
        if message.q.qtype == HINFO:
            # The question by which loops are found out.
            self.tried.append(str(message.q.qname))
            self.arrived.set()
            return
        self.asked.append(message)
        self.arrived.set()
        body = self.reply(message)
        if body is not None:
            self.transport.sendto(body, address)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack(">H", await reader.readexactly(2))
        body = address_of(dnslib.DNSRecord.parse(await reader.readexactly(size)))
        writer.write(struct.pack(">H", len(body)) + body)
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def upstreams(tmp_path: Path, *servers: Upstream) -> AsyncIterator[Forwarder]:
    """A forwarder that knows these servers, at 127.0.1.1 and so on."""
    loop = asyncio.get_running_loop()
    port = free_pair("0.0.0.0")
    lines, opened, streams = ["search x"], [], []
    for number, server in enumerate(servers, 1):
        host = f"127.0.1.{number}"
        lines.append(f"nameserver {host}")
        transport, _ = await loop.create_datagram_endpoint(
            lambda server=server: server, local_addr=(host, port)
        )
        opened.append(transport)
        streams.append(await asyncio.start_server(server.converse, host, port))
    conf = tmp_path / "resolv.conf"
    conf.write_text("\n".join(lines))
    forwarder = Forwarder(("10.96.0.10",), conf, FakeClock(), port)
    try:
        yield forwarder
    finally:
        await forwarder.close()
        for transport in opened:
            transport.close()
        for stream in streams:
            stream.close()
            await stream.wait_closed()


def query(name: str = "Example.com", number: int = 77) -> Query:
    message = dnslib.DNSRecord.question(name)
    message.header.id = number
    found = parse_query(bytes(message.pack()))
    assert found is not None
    return found


def read(body: bytes) -> dnslib.DNSRecord:
    return dnslib.DNSRecord.parse(body)


async def test_an_answer_comes_back_as_asked_and_is_kept_until_it_is_too_old(
    tmp_path: Path,
) -> None:
    server = Upstream()
    async with upstreams(tmp_path, server) as forwarder:
        clock = forwarder._clock
        assert isinstance(clock, FakeClock)
        reply = read(await forwarder.ask(query()))
        assert (reply.header.id, str(reply.q.qname)) == (77, "Example.com.")
        assert str(reply.rr[0].rdata) == "192.0.2.1"
        assert server.asked[0].header.id != 77 or len(server.asked) == 1
        await clock.advance(8)
        again = read(await forwarder.ask(query("eXample.com", 78)))
        assert (again.header.id, str(again.q.qname)) == (78, "eXample.com.")
        assert again.rr[0].ttl == 12
        assert len(server.asked) == 1
        await clock.advance(13)
        assert forwarder.cached(query()) is None
        await forwarder.ask(query())
        assert len(server.asked) == 2


async def test_a_question_asked_twice_at_once_is_sent_once(tmp_path: Path) -> None:
    server = Upstream()
    async with upstreams(tmp_path, server) as forwarder:
        bodies = await asyncio.gather(*[forwarder.ask(query(number=n)) for n in range(50)])
        assert [read(body).header.id for body in bodies] == list(range(50))
        assert len(server.asked) == 1


async def test_a_name_server_that_asks_us_back_ends_in_one_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "TIMEOUT_S", 0.05)
    server = Upstream(lambda message: None)
    async with upstreams(tmp_path, server) as forwarder:
        first = asyncio.ensure_future(forwarder.ask(query()))
        await server.arrived.wait()
        looped = asyncio.ensure_future(forwarder.ask(query(number=1)))
        assert read(await first).header.rcode == 2
        assert read(await looped).header.rcode == 2
        assert len(server.asked) == 1


async def test_a_server_that_is_silent_or_refuses_is_followed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "TIMEOUT_S", 0.05)

    def refuse(message: dnslib.DNSRecord) -> bytes:
        reply = message.reply()
        reply.header.rcode = 5
        return bytes(reply.pack())

    silent, refusing, good = Upstream(lambda message: None), Upstream(refuse), Upstream()
    async with upstreams(tmp_path, silent, refusing, good) as forwarder:
        assert str(read(await forwarder.ask(query())).rr[0].rdata) == "192.0.2.1"
        assert [len(item.asked) for item in (silent, refusing, good)] == [1, 1, 1]


async def test_a_forged_answer_is_not_taken(tmp_path: Path) -> None:
    def forge(message: dnslib.DNSRecord) -> bytes | None:
        for change in ("id", "name"):
            other = dnslib.DNSRecord.parse(message.pack())
            if change == "id":
                other.header.id ^= 1
            else:
                other.q.qname = dnslib.DNSLabel("other.com")
            reply = other.reply()
            reply.add_answer(dnslib.RR(other.q.qname, Kind.A, rdata=dnslib.A("6.6.6.6")))
            server.transport.sendto(reply.pack(), server.asker)
        return address_of(message)

    class Noting(Upstream):
        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            self.asker = address
            super().datagram_received(data, address)

    server = Noting(forge)
    async with upstreams(tmp_path, server) as forwarder:
        assert str(read(await forwarder.ask(query())).rr[0].rdata) == "192.0.2.1"


async def test_a_cut_answer_is_asked_for_again_over_tcp(tmp_path: Path) -> None:
    def cut(message: dnslib.DNSRecord) -> bytes:
        reply = message.reply()
        reply.header.tc = 1
        return bytes(reply.pack())

    async with upstreams(tmp_path, Upstream(cut)) as forwarder:
        reply = read(await forwarder.ask(query()))
        assert (reply.header.tc, str(reply.rr[0].rdata)) == (0, "192.0.2.1")


async def test_without_a_name_server_the_answer_is_a_failure_at_once(tmp_path: Path) -> None:
    missing = Forwarder((), tmp_path / "missing")
    assert read(await missing.ask(query())).header.rcode == 2
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 10.96.0.10\n")
    ourselves = Forwarder(("10.96.0.10",), conf)
    assert read(await ourselves.ask(query())).header.rcode == 2


async def test_too_many_at_once_are_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "MAX_IN_FLIGHT", 1)
    server = Upstream(lambda message: None)
    async with upstreams(tmp_path, server) as forwarder:
        waiting = asyncio.ensure_future(forwarder.ask(query("a.com")))
        await server.arrived.wait()
        assert read(await forwarder.ask(query("b.com"))).header.rcode == 2
        await forwarder.close()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_what_the_cache_had_is_counted(tmp_path: Path) -> None:
    def say(message: dnslib.DNSRecord) -> bytes:
        if message.q.qname != "no.example.":
            return address_of(message)
        reply = message.reply()
        reply.header.rcode = 3
        reply.add_auth(*dnslib.RR.fromZone("example 60 SOA ns. root. 1 2 3 4 5"))
        return bytes(reply.pack())

    async with upstreams(tmp_path, Upstream(say)) as forwarder:
        said: list[tuple[str, int]] = []
        forwarder.answered = lambda server, code, seconds: said.append((server[0], code))
        for name in ("a.example", "a.example", "no.example", "no.example", "no.example"):
            await forwarder.ask(query(name))
        assert (forwarder.hits, forwarder.misses) == ({"success": 1, "denial": 2}, 2)
        assert forwarder.kept() == {"success": 1, "denial": 1}
        assert said == [("127.0.1.1", 0), ("127.0.1.1", 3)]


async def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "CACHE_ENTRIES", 3)
    async with upstreams(tmp_path, Upstream()) as forwarder:
        for number in range(5):
            await forwarder.ask(query(f"{number}.com"))
        kept = [forwarder.cached(query(f"{number}.com")) is not None for number in range(5)]
        assert kept == [False, False, True, True, True]


def test_name_servers_of_a_resolv_conf() -> None:
    text = "# nameserver 9.9.9.9\nnameserver 10.0.0.1\nnameserver x\nnameserver 10.0.0.2 # b\n"
    text += "nameserver\nnameserver 10.0.0.1\nnameserver 10.0.0.3\nnameserver fe80::1%eth0\n"
    assert servers_in(text, ("10.0.0.2",)) == ("10.0.0.1", "10.0.0.3", "fe80::1%eth0")
    assert len(servers_in("\n".join(f"nameserver 10.0.0.{n}" for n in range(9)), ())) == 3


async def test_a_stub_domain_has_servers_of_its_own(tmp_path: Path) -> None:
    host, stub = Upstream(), Upstream()
    async with upstreams(tmp_path, host, stub) as forwarder:
        stubs = {"acme.local": (("127.0.1.2", 0),)}
        forwarder.route(Routes(stubs))
        await forwarder.ask(query("db.acme.local"))
        await forwarder.ask(query("example.com"))
        assert [str(item.q.qname) for item in stub.asked] == ["db.acme.local."]
        assert [str(item.q.qname) for item in host.asked] == ["example.com."]
        # Others than before: what those said is forgotten.
        forwarder.route(Routes(stubs, upstream=(("127.0.1.2", 0),)))
        await forwarder.ask(query("example.com"))
        assert len(stub.asked) == 2


async def test_a_server_that_asks_us_back_is_left_out(tmp_path: Path) -> None:
    looping, good = Upstream(lambda message: None), Upstream()
    async with upstreams(tmp_path, looping, good) as forwarder:
        first = asyncio.ensure_future(forwarder.ask(query("one.test")))
        async with asyncio.timeout(5):
            while not looping.tried:
                await looping.arrived.wait()
                looping.arrived.clear()
        # What it was asked comes back to us.
        body = await forwarder.ask(query(looping.tried[0].rstrip(".")))
        assert body[3] & 15 == 2
        first.cancel()
        assert (await forwarder.ask(query("two.test")))[3] & 15 == 0
        assert "two.test." not in [str(item.q.qname) for item in looping.asked]
        assert [str(item.q.qname) for item in good.asked] == ["two.test."]
