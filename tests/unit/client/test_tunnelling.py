"""What the ends of a tunnel say to each other before it is one."""

from __future__ import annotations

from sampan.client.tunnelling import read_seen, switch
from sampan.node.tidings import of_address


def test_an_agent_hears_from_where_it_is_heard() -> None:
    assert read_seen(switch("192.0.2.9")) == "192.0.2.9"
    assert read_seen(switch("::ffff:192.0.2.9")) == "192.0.2.9"
    assert read_seen(switch("2001:db8::9")) == "2001:db8::9"
    assert switch("192.0.2.9").startswith(b"HTTP/1.1 101 ")
    # A server of before does not say.
    assert read_seen(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n") == ""


def test_a_node_behind_nat_says_so() -> None:
    assert not list(of_address("192.0.2.9", "192.0.2.9"))
    assert not list(of_address("192.0.2.9", ""))
    (tiding,) = of_address("192.168.1.2", "192.0.2.9")
    assert (tiding.kind, tiding.reason) == ("Warning", "BehindNAT")
    assert "from 192.0.2.9, not from its own address 192.168.1.2" in tiding.text
