"""The resolvers of two C libraries, and a name server whose names are known to be in the world.

A program that asks for names is compiled with glibc and with musl (Debian packages gcc, libc6-dev,
musl-tools), each as one static file that runs in any container.
"""

from __future__ import annotations

import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from sampan.dns.message import Code, Kind, Record, Sections, parse_query, respond
from sampan.runtime.build import Entry, File

SOURCE = Path(__file__).with_name("resolve.c")
COMPILERS = {"glibc": "gcc", "musl": "musl-gcc"}
STREAM_BYTES = 65535


def resolvers(folder: Path) -> Mapping[str, Entry]:
    """For an image: bin/resolve-glibc and bin/resolve-musl."""
    files: dict[str, Entry] = {}
    for name, compiler in COMPILERS.items():
        program = folder / f"resolve-{name}"
        # glibc warns that names are better left to a library of the machine's own.
        command = [compiler, "-static", "-O1", "-w", "-o", str(program), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True)
        files[f"bin/{program.name}"] = File(program.read_bytes())
    return files


class Names:
    """What is asked, in order, and what is said: name -> addresses. Other names are not there."""

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._addresses = addresses
        self.asked: list[tuple[str, str, int]] = []
        """(protocol, name, type)."""

    def answer(self, data: bytes, protocol: str) -> bytes:
        query = parse_query(data)
        assert query is not None
        self.asked.append((protocol, query.name, query.kind))
        if query.name not in self._addresses:
            sections = Sections(Code.NO_NAME)
        else:
            found = map(ip_address, self._addresses[query.name])
            wanted = {Kind.A: 4, Kind.AAAA: 6}.get(Kind(query.kind))
            sections = Sections(answers=tuple(
                Record(query.name, query.kind, 30, item.packed)
                for item in found if item.version == wanted
            ))  # fmt: skip
        limit = query.datagram_bytes if protocol == "udp" else STREAM_BYTES
        return respond(query, sections, limit)


@contextmanager
def name_server(host: str, names: Names) -> Iterator[int]:
    """Answers at `host`, over both protocols; yields its port."""

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, sock = self.request
            sock.sendto(names.answer(data, "udp"), self.client_address)

    class Stream(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            (size,) = struct.unpack(">H", self.rfile.read(2))
            body = names.answer(self.rfile.read(size), "tcp")
            self.wfile.write(struct.pack(">H", len(body)) + body)

    with (
        socketserver.ThreadingUDPServer((host, 0), Datagram) as datagrams,
        socketserver.ThreadingTCPServer(datagrams.server_address, Stream) as streams,
    ):
        for server in (datagrams, streams):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield int(datagrams.socket.getsockname()[1])
        finally:
            for server in (datagrams, streams):
                server.shutdown()
                server.socket.close()
