"""A look by gRPC: one call of grpc.health.v1.Health/Check, in upstream's words (pkg/probe/grpc).

This speaks as much of HTTP/2 (RFC 9113) as one small call needs: a request in two frames; of the
answer the message, and the trailers when there is none. The peer is told to keep no table of
headers, so that each of them stands for itself (RFC 7541). Bound: `ANSWER_MAX` bytes are read.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from functools import cache

from sampan.aio.grpc import CODES
from sampan.wire.address import join_host_port

from .looks import PROBE_AGENT, Look

ANSWER_MAX = 64 << 10
FRAME_MAX = 16 << 10
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
HEADER_TABLE_SIZE, ENABLE_PUSH = 1, 2
PATH = "/grpc.health.v1.Health/Check"
SERVING = 1
STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
UNIMPLEMENTED = 12
# Lengths in bits of the codes of the characters from " " to "~" (RFC 7541, appendix B). The codes
# follow from them: they count up, the shorter first, equals by their character.
HUFFMAN_BITS = (
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7,
    7, 7, 7, 7, 15, 11, 14, 13,
)  # fmt: skip
HUFFMAN_MAX = 15
"""Longer codes are of characters that no status has."""


async def look_by_grpc(host: str, port: int, service: str, timeout_s: float | None) -> Look:
    """Good when the service says that it is serving."""
    where = f'"{join_host_port(host, port)}"'
    limit = f"{timeout_s:g}s" if timeout_s else "0s"
    connected = False
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, limit=ANSWER_MAX)
            connected = True
            try:
                writer.write(request(join_host_port(host, port), service))
                message, trailers = await _answer(reader, writer)
            finally:
                writer.transport.abort()
    except TimeoutError:
        if connected:
            return Look(False, f"timeout: health rpc did not complete within {limit}")
        return Look(False, _unreached(where, limit))
    except (OSError, EOFError, ValueError) as error:
        if not connected:
            # Upstream goes on trying until its time is up, and then says this.
            return Look(False, _unreached(where, limit))
        return Look(False, f"error: health rpc probe failed: {_rpc_error(14, str(error))}")
    return _judge(message, trailers)


def _unreached(where: str, limit: str) -> str:
    return f"timeout: failed to connect service {where} within {limit}: context deadline exceeded"


def _judge(message: bytes, trailers: dict[str, str]) -> Look:
    code = int(trailers["grpc-status"]) if trailers.get("grpc-status", "").isdigit() else 0
    if code:
        error = _rpc_error(code, trailers.get("grpc-message", ""))
        if code == UNIMPLEMENTED:
            text = "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
            return Look(False, f"error: {text}: {error}")
        return Look(False, f"error: health rpc probe failed: {error}")
    status = _status_of(message)
    if status == SERVING:
        return Look(True)
    name = STATUSES[status] if status < len(STATUSES) else str(status)
    return Look(False, f'service unhealthy (responded with "{name}")')


def _rpc_error(code: int, message: str) -> str:
    name = CODES[code] if code < len(CODES) else f"Code({code})"
    return f"rpc error: code = {name} desc = {message}"


def _status_of(message: bytes) -> int:
    """Field 1 of a HealthCheckResponse; what is not said is 0."""
    body = message[5:]
    return body[1] if len(body) > 1 and body[0] == 0x08 else 0


def request(authority: str, service: str) -> bytes:
    """Everything we say but acknowledgements."""
    settings = struct.pack(">HIHI", HEADER_TABLE_SIZE, 0, ENABLE_PUSH, 0)
    head = b"\x83\x86"  # :method POST, :scheme http
    head += b"\x04" + _literal(PATH) + b"\x01" + _literal(authority)
    head += b"\x0f\x10" + _literal("application/grpc") + b"\x0f\x2b" + _literal(PROBE_AGENT)
    head += b"\x00" + _literal("te") + _literal("trailers")
    name = service.encode()
    body = b"\x0a" + _varint(len(name)) + name if name else b""
    return (
        PREFACE
        + frame(SETTINGS, 0, 0, settings)
        + frame(HEADERS, END_HEADERS, 1, head)
        + frame(DATA, END_STREAM, 1, struct.pack(">BI", 0, len(body)) + body)
    )


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[bytes, dict[str, str]]:
    """The message, and the trailers. Raises ValueError and EOFError."""
    message, block = b"", b""
    fields: dict[str, str] = {}
    read, ending = 0, False
    while read < ANSWER_MAX:
        head = await reader.readexactly(9)
        size = int.from_bytes(head[:3], "big")
        if size > FRAME_MAX:
            raise ValueError("frame too large")
        kind, flags = head[3], head[4]
        payload = await reader.readexactly(size)
        read += size + len(head)
        if kind in (SETTINGS, PING) and not flags & ACK:
            writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == RST_STREAM:
            raise ValueError("stream terminated by RST_STREAM")
        elif kind == GOAWAY and not ending and int.from_bytes(payload[:4], "big") < 1:
            raise ValueError("the connection is draining")
        elif kind == DATA:
            message += _unpadded(payload, flags)
        elif kind in (HEADERS, CONTINUATION):
            if kind == HEADERS:
                payload = _unpadded(payload, flags)
                payload = payload[5:] if flags & PRIORITY else payload
                ending = bool(flags & END_STREAM)
            block += payload
            if flags & END_HEADERS:
                fields |= dict(fields_of(block))
                block = b""
                if ending:
                    return message, fields
        if kind == DATA and flags & END_STREAM:
            return message, fields
    raise ValueError("answer too long")


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & PADDED and payload else payload


def fields_of(block: bytes) -> Iterator[tuple[str, str]]:
    """The header fields that are spelled out; those of the static table are of no interest here."""
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:
            _, at = _read_integer(block, at, 7)
            continue
        if first & 0xE0 == 0x20:
            _, at = _read_integer(block, at, 5)
            continue
        index, at = _read_integer(block, at, 6 if first & 0x40 else 4)
        name = ""
        if not index:
            name, at = _read_literal(block, at)
        text, at = _read_literal(block, at)
        if name:
            yield name, text


def _literal(text: str) -> bytes:
    data = text.encode("latin-1", "replace")
    return _integer(len(data), 7) + data


def _integer(value: int, bits: int) -> bytes:
    """RFC 7541, 5.1: what does not fit into so many bits follows as a varint."""
    most = (1 << bits) - 1
    return bytes([value]) if value < most else bytes([most]) + _varint(value - most)


def _varint(value: int) -> bytes:
    out = []
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value, shift = block[at] & most, 0
    at += 1
    if value < most:
        return value, at
    while shift < 32 and at < len(block):
        value += (block[at] & 127) << shift
        shift += 7
        at += 1
        if not block[at - 1] & 128:
            return value, at
    raise ValueError("malformed header")


def _read_literal(block: bytes, at: int) -> tuple[str, int]:
    if at >= len(block):
        raise ValueError("malformed header")
    packed = bool(block[at] & 0x80)
    size, at = _read_integer(block, at, 7)
    data = block[at : at + size]
    return unpack(data) if packed else data.decode("latin-1"), at + size


@cache
def _codes() -> dict[tuple[int, int], str]:
    """(bits, code) -> character."""
    order = [(bits, chr(32 + index)) for index, bits in enumerate(HUFFMAN_BITS)]
    # NUL is the one character beside these whose code is that short.
    order = sorted([*(item for item in order if item[0] <= HUFFMAN_MAX), (13, "\0")])
    out, code, before = {}, 0, order[0][0]
    for bits, character in order:
        code <<= bits - before
        out[bits, code] = character
        code, before = code + 1, bits
    return out


def unpack(data: bytes) -> str:
    """Huffman-coded text; it ends where a character is met that we do not know."""
    out, code, bits = [], 0, 0
    for byte in data:
        for shift in range(7, -1, -1):
            code, bits = code << 1 | (byte >> shift & 1), bits + 1
            found = _codes().get((bits, code))
            if found is not None:
                out.append(found)
                code = bits = 0
            elif bits > HUFFMAN_MAX:
                return "".join(out)
    return "".join(out)
