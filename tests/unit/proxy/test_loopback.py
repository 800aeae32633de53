"""Node ports at 127.0.0.1 and ::1: what listeners carry, what they refuse, and their bounds.

127.0.0.2 is the node's gateway here, where the kernel's rules would take over.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sampan.proxy import carriage
from sampan.proxy.loopback import Door, Doors, doors_of
from sampan.proxy.rules import NOTHING, Rules
from tests.kit.ports import free_port

KEY, OTHER = ("ns", "web"), ("ns", "other")
HERE, GATEWAY = "127.0.0.1", "127.0.0.2"


def leading(*ports: str, to: str = "goto ext") -> Rules:
    return Rules({}, dict.fromkeys(ports, to), {}, frozenset())


class Echo(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.senders: list[tuple[str, int]] = []

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.senders.append(addr)
        self.transport.sendto(data + b"-pong", addr)


class Bench:
    def __init__(self) -> None:
        self.port = free_port()
        self.said: list[tuple[tuple[str, str], Door]] = []
        self.doors = Doors(
            {4: GATEWAY, 6: "::1"}, lambda key, door, error: self.said.append((key, door))
        )

    async def want(self, rules: Rules, key: tuple[str, str] = KEY) -> None:
        self.doors.want(key, 4, rules)
        await self.doors.settle()

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[None]:
        """Says how many bytes there were, once the client has ended its direction."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            size = 0
            while block := await reader.read(65536):
                size += len(block)
                if size == 1:
                    writer.write(b"?")
            writer.write(b"%d" % size)
            writer.close()

        async with await asyncio.start_server(answer, GATEWAY, self.port):
            yield

    async def ask(self, data: bytes = b"hello") -> bytes:
        reader, writer = await asyncio.open_connection(HERE, self.port)
        try:
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(5):
                return await reader.read()
        finally:
            writer.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.doors.close()
    await asyncio.sleep(0)


def test_doors_are_the_node_ports_that_lead_somewhere() -> None:
    rules = leading("tcp . 30080", "udp . 30053", "sctp . 30090")
    assert doors_of(rules, 6) == {Door(6, "tcp", 30080), Door(6, "udp", 30053)}
    for verdict in ("goto refuse", "drop"):
        assert not doors_of(leading("tcp . 30080", to=verdict), 4)


async def test_both_directions_of_a_connection_are_carried_to_their_ends(bench: Bench) -> None:
    async with bench.backend():
        await bench.want(leading(f"tcp . {bench.port}"))
        assert await bench.ask() == b"5"
        assert await bench.ask(bytes(3 << 20)) == b"%d" % (3 << 20)
        # What is carried outlives the listener.
        reader, writer = await asyncio.open_connection(HERE, bench.port)
        writer.write(b"1")
        async with asyncio.timeout(5):
            assert await reader.readexactly(1) == b"?"
        await bench.want(NOTHING)
        with pytest.raises(ConnectionRefusedError):
            await bench.ask()
        writer.write_eof()
        assert await reader.read() == b"1"
        writer.close()


async def test_nobody_behind_the_port_ends_in_an_error(bench: Bench) -> None:
    await bench.want(leading(f"tcp . {bench.port}"))
    with pytest.raises(ConnectionResetError):
        await bench.ask()


async def test_one_connection_too_many_is_reset(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carriage, "CONNECTIONS_MAX", 1)
    async with bench.backend():
        await bench.want(leading(f"tcp . {bench.port}"))
        reader, writer = await asyncio.open_connection(HERE, bench.port)
        with pytest.raises(ConnectionResetError):
            await bench.ask()
        writer.write_eof()
        assert await reader.read() == b"0"
        writer.close()
        assert await bench.ask() == b"5"


async def test_a_port_of_somebody_else_is_left_alone_and_told_once(bench: Bench) -> None:
    rules = leading(f"tcp . {bench.port}")
    with socket.socket() as taken:
        taken.bind((HERE, bench.port))
        taken.listen()
        await bench.want(rules)
        await bench.want(leading(f"udp . {bench.port}"), OTHER)
        assert bench.said == [(KEY, Door(4, "tcp", bench.port))]
    # Tried again with the next change of any.
    await bench.want(NOTHING, OTHER)
    async with bench.backend():
        assert await bench.ask() == b"5"


async def test_a_port_passes_from_one_service_to_another(bench: Bench) -> None:
    rules = leading(f"tcp . {bench.port}")
    async with bench.backend():
        await bench.want(rules)
        bench.doors.want(OTHER, 4, rules)
        bench.doors.want(KEY, 4, NOTHING)
        await bench.doors.settle()
        assert await bench.ask() == b"5"
        await bench.want(NOTHING, OTHER)
        with pytest.raises(ConnectionRefusedError):
            await bench.ask()


async def test_each_sender_of_datagrams_has_a_flow_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carriage, "FLOWS_MAX", 2)
    loop = asyncio.get_running_loop()
    server = Echo()
    served, _ = await loop.create_datagram_endpoint(lambda: server, (GATEWAY, bench.port))
    await bench.want(leading(f"udp . {bench.port}"))
    senders = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(3)]
    for sender in (*senders, senders[2]):
        sender.setblocking(False)
        sender.connect((HERE, bench.port))
        await loop.sock_sendall(sender, b"ping")
        async with asyncio.timeout(5):
            assert await loop.sock_recv(sender, 100) == b"ping-pong"
    assert len(set(server.senders)) == 3
    assert server.senders[2] == server.senders[3]
    # The third took the place of the one that was silent longest.
    assert len(bench.doors._carried.flows) == 2
    for sender in senders:
        sender.close()
    served.close()
