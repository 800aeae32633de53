"""Addresses as text, and the words for those that do not answer."""

from __future__ import annotations

import errno

from sampan.wire.address import connect_words, join_host_port


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert join_host_port("::1", 80) == "[::1]:80"
    assert join_host_port("10.0.0.1", "80") == "10.0.0.1:80"


def test_a_name_of_several_addresses_fails_for_the_first_reason() -> None:
    refused = f"[Errno {errno.ECONNREFUSED}] Connect call failed"
    several = OSError(f"Multiple exceptions: {refused} ('::1', 1, 0, 0), {refused} ('::2', 1)")
    assert connect_words(several) == "connection refused"
    assert connect_words(OSError(errno.EHOSTUNREACH, "")) == "no route to host"
    assert connect_words(OSError("odd")) == "odd"
