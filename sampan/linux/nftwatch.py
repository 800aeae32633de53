"""Notice when somebody changes nftables: an nfnetlink socket that hears of each transaction.

`flush ruleset` by an administrator or another firewall removes our tables too. The kernel says
that a transaction happened (NFT_MSG_NEWGEN); a filter on the socket keeps everything else out, so
that nothing wakes us in quiet times and a transaction of any size costs one small message.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from .netlink import (
    ERROR,
    HEADER,
    REQUEST,
    attribute,
    attributes,
    messages_of,
    netfilter_socket,
    refusal_of,
)

_NFNLGRP_NFTABLES = 7
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_ATTACH_FILTER = 26
_SUBSYSTEM = 10 << 8
_NEWTABLE, _GETTABLE, _NEWGEN = 0, 1, 15
_TABLE_NAME, _TABLE_HANDLE = 1, 4
_FAMILIES = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}
_GENERIC = struct.Struct("=BBH")


class TransactionWatch:
    """A non-blocking descriptor that becomes readable when a transaction was committed."""

    def __init__(self) -> None:
        self._socket = netfilter_socket()
        self._socket.setblocking(False)
        # Without a port of its own the socket would be taken for the sender and left out.
        self._socket.bind((0, 0))
        _accept_only(self._socket, _SUBSYSTEM | _NEWGEN)
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget what has been heard. Messages lost to a full buffer do not matter: one is left."""
        while True:
            try:
                if not self._socket.recv(4096):
                    return
            except BlockingIOError:
                return
            except OSError:
                continue

    def close(self) -> None:
        self._socket.close()


def _accept_only(sock: socket.socket, kind: int) -> None:
    """A classic BPF program: take messages of one type, drop all others."""
    program = b"".join(
        struct.pack("=HBBI", *step)
        for step in (
            (0x28, 0, 0, 4),  # load the half-word at 4, nlmsg_type; the load is big-endian
            (0x15, 0, 1, socket.htons(kind)),
            (0x06, 0, 0, 0xFFFFFFFF),
            (0x06, 0, 0, 0),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 4, ctypes.addressof(code))
    )


def table_handle(name: str, family: str = "ip") -> int:
    """The kernel's number for the table of that name, IPv4 or "ip6"; 0 when there is none.

    A table that was removed and made again has another number. Takes some 50 us.
    """
    payload = _GENERIC.pack(_FAMILIES[family], 0, 0)
    payload += attribute(_TABLE_NAME, name.encode() + b"\0")
    head = HEADER.pack(HEADER.size + len(payload), _SUBSYSTEM | _GETTABLE, REQUEST, 1, 0)
    with netfilter_socket() as sock:
        sock.send(head + payload)
        kind, _, _, body = next(messages_of(sock.recv(65536)))
    if kind == ERROR:
        number = refusal_of(body)
        if number == errno.ENOENT:
            return 0
        raise OSError(number, os.strerror(number), name)
    return int.from_bytes(attributes(body[_GENERIC.size :]).get(_TABLE_HANDLE, b""), "big")
