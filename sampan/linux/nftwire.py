"""Small nftables scripts as the kernel's own messages (nfnetlink), without the program `nft`.

`nft` reads every chain and set of the machine before it adds a rule, so that one change costs more
the more rules there are. The kernel asks for none of that. This knows the statements that changes
of services and policies consist of, and no others: `compile_script` raises NotKnown for a script
with any other word, which is then `nft`'s to carry out. Tests hold both to the same result in the
kernel.

Elements of sets with intervals cannot be told by their text; a script that has them declares the
set too, and that is not known.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

from .netlink import (
    ACK,
    ERROR,
    HEADER,
    NESTED,
    REQUEST,
    attribute,
    messages_of,
    netfilter_socket,
    refusal_of,
)

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_CREATE, _APPEND = 0x400, 0x800
_NEWTABLE, _DELTABLE = 0, 2
_NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = 3, 5, 6, 8
_NEWSET, _DELSET, _NEWSETELEM, _DELSETELEM = 9, 11, 12, 14
_GENERIC = struct.Struct(">BBH")
_VERDICTS = {"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_FAMILIES = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}
# Where sender and receiver stand in the header, and how long they are.
_FIELDS = {("ip", "saddr"): (12, 4), ("ip", "daddr"): (16, 4),
           ("ip6", "saddr"): (8, 16), ("ip6", "daddr"): (24, 16)}  # fmt: skip
# nft's own numbers of types, by which it shows what is in a set.
_INTEGER, _ADDRESS, _PORT = 4, {"ip": 7, "ip6": 8}, 13
_TYPE_BITS = 6
# What nft notes of a set for itself: keys are in the machine's byte order, data in the network's.
_ORDERS = struct.pack("=BBIBBI", 0, 4, 1, 1, 4, 2)
_ANONYMOUS, _CONSTANT, _MAP, _TIMEOUT, _EVAL = 0x1, 0x2, 0x8, 0x10, 0x20
_META_MARK, _META_L4PROTO = 3, 16
_RANDOM, _NETWORK_HEADER = 1, 1
_FIB_ADDRTYPE, _FIB_SADDR, _LOCAL = 3, 1, 2
_PROTO_SPECIFIED = 2
# The kernel takes a batch as one datagram; larger ones are rare, and nft's.
MOST_BYTES = 128 << 10


class NotKnown(Exception):
    """A statement that only nft can read."""


class Refused(Exception):
    """The kernel refused the transaction; nothing has changed."""


def apply_messages(batch: bytes) -> None:
    """Send a batch made by `compile_script` and wait for its end. Raises Refused, OSError."""
    with netfilter_socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST_BYTES)
        sock.send(batch)
        # The first message that was refused comes first, the acknowledgement of the last one last.
        kind, _, _, body = next(messages_of(sock.recv(65536)))
    number = refusal_of(body)
    if kind != ERROR or number:
        raise Refused(os.strerror(number))


def has_nat(family: str) -> bool:
    """Can the kernel translate addresses of "ip" or "ip6", and may we ask it to? A table and its
    chain are made and removed in one transaction, so that nobody ever sees them."""
    batch = _Batch()
    name = _text(1, f"sampan-probe-{os.getpid()}")
    hook = _nest(4, _number(1, 0) + _number(2, 0))
    batch.put(_NEWTABLE, _CREATE, family, name)
    batch.put(_NEWCHAIN, _CREATE, family, name + _text(3, "probe") + hook + _text(7, "nat"))
    batch.put(_DELTABLE, 0, family, name)
    try:
        apply_messages(batch.packed())
    except (OSError, Refused):
        return False
    return True


def compile_script(script: str) -> bytes:
    """The batch that does what `script` says. Raises NotKnown."""
    batch = _Batch()
    for line in script.splitlines():
        batch.add_line(line)
    return batch.packed()


class _Batch:
    def __init__(self) -> None:
        self._messages: list[tuple[int, int, int, bytes]] = []
        self._sets = 0

    def packed(self) -> bytes:
        if not self._messages:
            raise NotKnown("nothing")
        edge = _GENERIC.pack(socket.AF_UNSPEC, 0, _SUBSYSTEM)
        parts = [HEADER.pack(HEADER.size + 4, _BATCH_BEGIN, REQUEST, 0, 0), edge]
        last = len(self._messages)
        for number, (kind, flags, family, payload) in enumerate(self._messages, 1):
            flags |= REQUEST | (ACK if number == last else 0)
            size = HEADER.size + _GENERIC.size + len(payload)
            parts.append(HEADER.pack(size, _SUBSYSTEM << 8 | kind, flags, number, 0))
            parts.append(_GENERIC.pack(family, 0, 0))
            parts.append(payload)
        parts += (HEADER.pack(HEADER.size + 4, _BATCH_END, REQUEST, last + 1, 0), edge)
        batch = b"".join(parts)
        if len(batch) > MOST_BYTES:
            raise NotKnown("too large")
        return batch

    def add_line(self, line: str) -> None:
        words = line.split(" ", 5)
        if len(words) < 5 or words[2] not in _FAMILIES:
            raise NotKnown(line)
        verb, what, family, table, name = words[:5]
        rest = words[5] if len(words) > 5 else ""
        make: Callable[[_Batch, str, str, str, str], None] | None = _MAKERS.get(f"{verb} {what}")
        if make is None:
            raise NotKnown(line)
        make(self, family, table, name, rest)

    def put(self, kind: int, flags: int, family: str, payload: bytes) -> None:
        self._messages.append((kind, flags, _FAMILIES[family], payload))

    def add_chain(self, family: str, table: str, name: str, rest: str) -> None:
        if rest:
            raise NotKnown("a base chain")
        self.put(_NEWCHAIN, _CREATE, family, _text(1, table) + _text(3, name))

    def delete_chain(self, family: str, table: str, name: str, rest: str) -> None:
        self.put(_DELCHAIN, 0, family, _text(1, table) + _text(3, name))

    def flush_chain(self, family: str, table: str, name: str, rest: str) -> None:
        self.put(_DELRULE, 0, family, _text(1, table) + _text(2, name))

    def add_rule(self, family: str, table: str, name: str, rest: str) -> None:
        rule = _Rule(self, family, table)
        expressions = b"".join(rule.read(rest))
        payload = _text(1, table) + _text(2, name) + _nest(4, expressions)
        self.put(_NEWRULE, _CREATE | _APPEND, family, payload)

    def add_set(self, family: str, table: str, name: str, rest: str) -> None:
        """Sets that packets fill, and sets of addresses."""
        found = _SET.fullmatch(rest)
        if found is None:
            raise NotKnown(rest)
        kind = "ip" if found["kind"] == "ipv4_addr" else "ip6"
        seconds = int(found["seconds"] or 0)
        self._sets += 1
        payload = (
            _text(1, table) + _text(2, name)
            + _number(3, _TIMEOUT | _EVAL if seconds else 0)
            + _number(4, _ADDRESS[kind]) + _number(5, _FIELDS[kind, "saddr"][1])
            + _number(10, self._sets)
        )  # fmt: skip
        if seconds:
            payload += attribute(11, struct.pack(">Q", seconds * 1000))
        self.put(_NEWSET, _CREATE, family, payload)

    def add_choices(self, family: str, table: str, choices: list[tuple[bytes, bytes]]) -> int:
        """An unnamed map from numbers to addresses with ports; its number in this batch."""
        self._sets += 1
        width = _FIELDS[family, "saddr"][1] + 4
        payload = (
            _text(1, table) + _text(2, "__map%d") + _number(3, _ANONYMOUS | _CONSTANT | _MAP)
            + _number(4, _INTEGER) + _number(5, 4)
            + _number(6, _ADDRESS[family] << _TYPE_BITS | _PORT) + _number(7, width)
            + _nest(9, _number(1, len(choices))) + _number(10, self._sets)
            + attribute(13, _ORDERS)
        )  # fmt: skip
        self.put(_NEWSET, _CREATE, family, payload)
        elements = b"".join(
            _nest(1, _nest(1, attribute(1, key)) + _nest(2, attribute(1, value)))
            for key, value in choices
        )
        elements = _text(1, table) + _text(2, "__map%d") + _nest(3, elements)
        self.put(_NEWSETELEM, _CREATE, family, elements + _number(4, self._sets))
        return self._sets

    def delete_set(self, family: str, table: str, name: str, rest: str) -> None:
        self.put(_DELSET, 0, family, _text(1, table) + _text(2, name))

    def add_element(self, family: str, table: str, name: str, rest: str) -> None:
        self.put(_NEWSETELEM, _CREATE, family, _elements(table, name, rest))

    def delete_element(self, family: str, table: str, name: str, rest: str) -> None:
        self.put(_DELSETELEM, 0, family, _elements(table, name, rest))


_MAKERS = {
    "add chain": _Batch.add_chain, "delete chain": _Batch.delete_chain,
    "flush chain": _Batch.flush_chain, "add rule": _Batch.add_rule,
    "add set": _Batch.add_set, "delete set": _Batch.delete_set,
    "add element": _Batch.add_element, "delete element": _Batch.delete_element,
}  # fmt: skip


def _elements(table: str, name: str, rest: str) -> bytes:
    if not (rest.startswith("{ ") and rest.endswith(" }")):
        raise NotKnown(rest)
    items = []
    for item in rest[2:-2].split(", "):
        key, colon, value = item.partition(" : ")
        content = _nest(1, attribute(1, _fields(key)))
        if colon:
            content += _nest(2, _data(value))
        items.append(_nest(1, content))
    return _text(1, table) + _text(2, name) + _nest(3, b"".join(items))


def _data(text: str) -> bytes:
    if " . " in text:
        return attribute(1, _fields(text))
    return _verdict(text)


def _fields(text: str) -> bytes:
    """Fields of a concatenation are padded; one alone is not."""
    fields = [_value(part) for part in text.split(" . ")]
    if len(fields) == 1:
        return fields[0]
    return b"".join(part + bytes(-len(part) % 4) for part in fields)


def _value(text: str) -> bytes:
    if text in _PROTOCOLS:
        return bytes([_PROTOCOLS[text]])
    if text.isdigit():
        return struct.pack(">H", int(text))
    try:
        return ip_address(text).packed
    except ValueError:
        raise NotKnown(text) from None


class _Rule:
    """Reads a rule, statement by statement; each is one or more expressions of the kernel."""

    def __init__(self, batch: _Batch, family: str, table: str) -> None:
        self._batch = batch
        self._family = family
        self._table = table

    def read(self, text: str) -> Iterator[bytes]:
        while text:
            for pattern, make in _STATEMENTS:
                found = pattern.match(text)
                if found is not None:
                    yield from make(self, found)
                    text = text[found.end() :].lstrip(" ")
                    break
            else:
                raise NotKnown(text)

    def protocol(self, found: re.Match[str]) -> Iterator[bytes]:
        yield _expression("meta", _number(1, 1) + _number(2, _META_L4PROTO))
        yield _equals(bytes([_PROTOCOLS[found[1]]]))

    def chance(self, found: re.Match[str]) -> Iterator[bytes]:
        yield _draw(int(found[1]))
        yield _equals(bytes(4))

    def destination(self, found: re.Match[str]) -> Iterator[bytes]:
        yield _immediate(1, _address(self._family, found[2].strip("[]")))
        yield _immediate(2, struct.pack(">H", int(found[3])))
        yield self._nat(2, _number(7, _PROTO_SPECIFIED))

    def choice(self, found: re.Match[str]) -> Iterator[bytes]:
        choices = []
        for item in found[3].split(", "):
            key, _, value = item.partition(" : ")
            ip, _, port = value.partition(" . ")
            data = _address(self._family, ip) + struct.pack(">HH", int(port), 0)
            choices.append((struct.pack("=I", int(key)), data))
        number = self._batch.add_choices(self._family, self._table, choices)
        yield _draw(int(found[2]))
        lookup = _text(1, "__map%d") + _number(2, 1) + _number(3, 1) + _number(4, number)
        yield _expression("lookup", lookup)
        # The port follows the address: in the next word after an IPv4 one, else the next register.
        yield self._nat(9 if self._family == "ip" else 2, b"")

    def _nat(self, port_register: int, flags: bytes) -> bytes:
        content = _number(1, 1) + _number(2, _FAMILIES[self._family]) + _number(3, 1)
        return _expression("nat", content + _number(5, port_register) + flags)

    def update(self, found: re.Match[str]) -> Iterator[bytes]:
        yield _load(found[2], found[3])
        yield _expression("dynset", _text(1, found[1]) + _number(3, 1) + _number(4, 1))

    def member(self, found: re.Match[str]) -> Iterator[bytes]:
        yield _load(found[1], found[2])
        yield _expression("lookup", _text(1, found[3]) + _number(2, 1))

    def network(self, found: re.Match[str]) -> Iterator[bytes]:
        try:
            network = ip_network(found[3])
        except ValueError:
            raise NotKnown(found[0]) from None
        if len(network.network_address.packed) != _FIELDS[found[1], found[2]][1]:
            raise NotKnown(found[0])
        yield _load(found[1], found[2])
        yield _mask(network.netmask.packed, bytes(len(network.netmask.packed)))
        yield _equals(network.network_address.packed)

    def mark(self, found: re.Match[str]) -> Iterator[bytes]:
        bit = int(found[1], 16)
        yield _expression("meta", _number(1, 1) + _number(2, _META_MARK))
        yield _mask(struct.pack("=I", ~bit & 0xFFFFFFFF), struct.pack("=I", bit))
        yield _expression("meta", _number(2, _META_MARK) + _number(3, 1))

    def local(self, found: re.Match[str]) -> Iterator[bytes]:
        content = _number(1, 1) + _number(2, _FIB_ADDRTYPE) + _number(3, _FIB_SADDR)
        yield _expression("fib", content)
        yield _equals(struct.pack("=I", _LOCAL))

    def verdict(self, found: re.Match[str]) -> Iterator[bytes]:
        yield _expression("immediate", _number(1, 0) + _nest(2, _verdict(found[0])))


_STATEMENTS: list[tuple[re.Pattern[str], Callable[[_Rule, re.Match[str]], Iterator[bytes]]]] = [
    (re.compile(r"meta l4proto (tcp|udp|sctp)(?= |$)"), _Rule.protocol),
    (re.compile(r"numgen random mod (\d+) == 0(?= |$)"), _Rule.chance),
    (re.compile(r"dnat (ip6?) to numgen random mod (\d+) map \{ ([^{}]+) \}$"), _Rule.choice),
    (re.compile(r"dnat (ip6?) to ([0-9.]+|\[[0-9a-f:.]+\]):(\d+)$"), _Rule.destination),
    (re.compile(r"update @(\S+) \{ (ip6?) (saddr) \}(?= |$)"), _Rule.update),
    (re.compile(r"(ip6?) ([sd]addr) @(\S+)(?= |$)"), _Rule.member),
    (re.compile(r"(ip6?) ([sd]addr) ([0-9a-f.:]+/\d+)(?= |$)"), _Rule.network),
    (re.compile(r"meta mark set meta mark \| 0x([0-9a-f]+)(?= |$)"), _Rule.mark),
    (re.compile(r"fib saddr type local(?= |$)"), _Rule.local),
    (re.compile(r"(?:goto|jump) \S+$|(?:drop|accept|return)$"), _Rule.verdict),
]
_SET = re.compile(
    r"\{ type (?P<kind>ipv[46]_addr);"
    r"( flags dynamic, timeout; timeout (?P<seconds>\d+)s;)? \}"
)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _nest(kind: int, content: bytes) -> bytes:
    return attribute(NESTED | kind, content)


def _expression(name: str, content: bytes) -> bytes:
    return _nest(1, _text(1, name) + _nest(2, content))


def _equals(value: bytes) -> bytes:
    return _expression("cmp", _number(1, 1) + _number(2, 0) + _nest(3, attribute(1, value)))


def _draw(count: int) -> bytes:
    return _expression("numgen", _number(1, 1) + _number(2, count) + _number(3, _RANDOM))


def _immediate(register: int, value: bytes) -> bytes:
    return _expression("immediate", _number(1, register) + _nest(2, attribute(1, value)))


def _load(family: str, field: str) -> bytes:
    offset, size = _FIELDS[family, field]
    content = _number(1, 1) + _number(2, _NETWORK_HEADER) + _number(3, offset)
    return _expression("payload", content + _number(4, size))


def _mask(mask: bytes, flipped: bytes) -> bytes:
    content = _number(1, 1) + _number(2, 1) + _number(3, len(mask))
    return _expression(
        "bitwise", content + _nest(4, attribute(1, mask)) + _nest(5, attribute(1, flipped))
    )


def _verdict(text: str) -> bytes:
    """NFTA_DATA_VERDICT."""
    word, _, chain = text.partition(" ")
    if word not in _VERDICTS:
        raise NotKnown(text)
    code = attribute(1, struct.pack(">i", _VERDICTS[word]))
    return _nest(2, code + (_text(2, chain) if chain else b""))


def _address(family: str, text: str) -> bytes:
    try:
        packed = ip_address(text).packed
    except ValueError:
        raise NotKnown(text) from None
    if len(packed) != _FIELDS[family, "saddr"][1]:
        raise NotKnown(text)
    return packed
