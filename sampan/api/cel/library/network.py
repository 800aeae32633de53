"""URLs, IP addresses and CIDRs (k8s.io/apiserver pkg/cel/library urls.go, ip.go, cidr.go)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from ..errors import EvaluationError
from ..functions import Functions, function, method, size_of, table, tenth, walk_first
from ..types import BOOL, INT, STRING, Type, list_of, map_of
from ..values import Opaque

URL, ADDRESS, BLOCK = Type("kubernetes.URL"), Type("net.IP"), Type("net.CIDR")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class Url(Opaque):
    """A parsed URL."""

    __slots__ = ("parts", "text")
    type_name = URL.name

    def __init__(self, text: str, parts: SplitResult) -> None:
        self.text, self.parts = text, parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class Address(Opaque):
    """An IP address."""

    __slots__ = ("ip",)
    type_name = ADDRESS.name

    def __init__(self, ip: IPv4Address | IPv6Address) -> None:
        self.ip = ip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self.ip == other.ip

    def __hash__(self) -> int:
        return hash(self.ip)


class Block(Opaque):
    """An address with the length of its prefix."""

    __slots__ = ("ip", "net")
    type_name = BLOCK.name

    def __init__(self, ip: IPv4Address | IPv6Address, net: IPv4Network | IPv6Network) -> None:
        self.ip, self.net = ip, net

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and (self.ip, self.net) == (other.ip, other.net)

    def __hash__(self) -> int:
        return hash((self.ip, self.net))


def _url(text: str) -> Url:
    """Go's url.ParseRequestURI: absolute, or an absolute path."""
    wrong = EvaluationError(
        f'URL parse error during conversion from string: parse "{text}": invalid URI for request'
    )
    if not text or _CONTROL.search(text) or not (text[0] == "/" or _SCHEME.match(text)):
        raise wrong
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise wrong from None
    if text[0] != "/" and not parts.netloc and not parts.path.startswith("/"):
        raise wrong
    return Url(text, parts)


def _host(url: Url) -> str:
    return url.parts.netloc.rpartition("@")[2]


def _hostname(url: Url) -> str:
    host = _host(url)
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _port(url: Url) -> str:
    after = _host(url).rpartition("]")[2]
    return after.partition(":")[2]


def _path(url: Url) -> str:
    return quote(unquote(url.parts.path), safe="/!$&'()*+,;=:@~-._")


def _query(url: Url) -> dict[str, list[str]]:
    return parse_qs(url.parts.query, keep_blank_values=True)


def _valid(call: Any) -> Any:
    def check(*args: Any) -> bool:
        try:
            call(*args)
        except EvaluationError:
            return False
        return True

    return check


def _address(text: str) -> Address:
    if "%" in text:
        raise EvaluationError(f"IP Address '{text}' with zone value is not allowed")
    try:
        ip = ip_address(text)
    except ValueError:
        raise EvaluationError(
            f"IP Address '{text}' parse error during conversion from string:"
            f' ParseAddr("{text}"): unable to parse IP'
        ) from None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        raise EvaluationError(f"IPv4-mapped IPv6 address '{text}' is not allowed")
    return Address(ip)


def _block(text: str) -> Block:
    ip, slash, bits = text.partition("/")
    wrong = EvaluationError(
        f"network address parse error during conversion from string: netip.ParsePrefix"
        f"(\"{text}\"): no '/'"
    )
    if not slash or not bits.isdecimal() or (bits[0] == "0" and bits != "0"):
        raise wrong
    try:
        address = _address(ip).ip
        return Block(address, ip_network(text, strict=False))
    except ValueError:
        raise wrong from None


def _canonical(text: str) -> bool:
    return str(_address(text).ip) == text


def _holds_ip(block: Block, other: Address | str) -> bool:
    address = _address(other) if isinstance(other, str) else other
    return address.ip in block.net


def _holds_block(block: Block, other: Block | str) -> bool:
    inner = _block(other) if isinstance(other, str) else other
    if inner.net.version != block.net.version or inner.net.prefixlen < block.net.prefixlen:
        return False
    return inner.ip in block.net


def _masked(block: Block) -> Block:
    return Block(block.net.network_address, block.net)


def _block_text(block: Block) -> str:
    return f"{block.ip}/{block.net.prefixlen}"


def _global(address: Address) -> bool:
    """Go's IsGlobalUnicast, which private addresses are."""
    ip = address.ip
    return not (
        ip.is_unspecified or ip.is_loopback or ip.is_multicast or ip.is_link_local
        or str(ip) == "255.255.255.255"
    )  # fmt: skip


def _local_multicast(address: Address) -> bool:
    ip = address.ip
    return ip in ip_network("224.0.0.0/24") or ip in ip_network("ff02::/16")


def _twice(args: Sequence[Any], result: Any) -> int:
    return tenth(2 * size_of(args[0]))


def _reading(args: Sequence[Any], result: Any) -> int:
    """Parts of a URL are taken from its text each time."""
    return 1 + len(args[0].text) // 100


def _holding(args: Sequence[Any], result: Any) -> int:
    return 5 + tenth(size_of(args[1]))


def functions() -> Functions:
    """The declarations."""
    text = STRING
    return table(
        ("url", function((text,), URL, _url, walk_first)),
        ("isURL", function((text,), BOOL, _valid(_url), walk_first)),
        ("getScheme", method((URL,), text, lambda url: url.parts.scheme)),
        ("getHost", method((URL,), text, _host, _reading)),
        ("getHostname", method((URL,), text, _hostname, _reading)),
        ("getPort", method((URL,), text, _port, _reading)),
        ("getEscapedPath", method((URL,), text, _path, _reading)),
        ("getQuery", method((URL,), map_of(text, list_of(text)), _query, _reading)),
        ("ip", function((text,), ADDRESS, _address, walk_first)),
        ("ip", method((BLOCK,), ADDRESS, lambda block: Address(block.ip))),
        ("ip.isCanonical", function((text,), BOOL, _canonical, _twice)),
        ("isIP", function((text,), BOOL, _valid(_address), walk_first)),
        ("string", function((ADDRESS,), text, lambda address: str(address.ip))),
        ("family", method((ADDRESS,), INT, lambda address: address.ip.version)),
        ("isUnspecified", method((ADDRESS,), BOOL, lambda address: address.ip.is_unspecified)),
        ("isLoopback", method((ADDRESS,), BOOL, lambda address: address.ip.is_loopback)),
        ("isLinkLocalMulticast", method((ADDRESS,), BOOL, _local_multicast)),
        ("isLinkLocalUnicast", method((ADDRESS,), BOOL, lambda address: address.ip.is_link_local)),
        ("isGlobalUnicast", method((ADDRESS,), BOOL, _global)),
        ("cidr", function((text,), BLOCK, _block, walk_first)),
        ("isCIDR", function((text,), BOOL, _valid(_block), walk_first)),
        ("string", function((BLOCK,), text, _block_text)),
        ("containsIP", method((BLOCK, ADDRESS), BOOL, _holds_ip, _holding)),
        ("containsIP", method((BLOCK, text), BOOL, _holds_ip, _holding)),
        ("containsCIDR", method((BLOCK, BLOCK), BOOL, _holds_block, _holding)),
        ("containsCIDR", method((BLOCK, text), BOOL, _holds_block, _holding)),
        ("prefixLength", method((BLOCK,), INT, lambda block: block.net.prefixlen)),
        ("masked", method((BLOCK,), BLOCK, _masked)),
    )
