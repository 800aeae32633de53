"""What differs between IPv4 and IPv6 in rules. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

from msgspec import Struct


class Family(Struct, frozen=True):
    """`word` is nft's for the family, `kind` its type of addresses."""

    name: str
    """As EndpointSlices and Services have it: IPv4, IPv6."""
    word: str
    kind: str
    loopback: str
    refusal: str
    address: type[IPv4Address] | type[IPv6Address]

    def parse(self, text: Any) -> str:
        """`text` as an address of this family in canonical form, "" if it is none."""
        try:
            return str(self.address(text)) if isinstance(text, str) else ""
        except ValueError:
            return ""

    def destination(self, ip: str, port: int) -> str:
        """An address with its port, as nft reads it."""
        return f"{ip}:{port}" if self is IPV4 else f"[{ip}]:{port}"


IPV4 = Family("IPv4", "ip", "ipv4_addr", "127.0.0.0/8", "icmp", IPv4Address)
IPV6 = Family("IPv6", "ip6", "ipv6_addr", "::1/128", "icmpv6", IPv6Address)


def family_of(network: str) -> Family:
    """The family of a network or address. Raises ValueError."""
    return IPV4 if ip_network(network, strict=False).version == 4 else IPV6
