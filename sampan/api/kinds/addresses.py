"""Addresses and ranges, in upstream's words (k8s.io/apimachinery util/validation/ip.go).

What can be read in two ways is refused: leading zeros, IPv4 inside IPv6, ranges with bits beyond
their mask (KEP-4858, on by default since 1.36). An update that leaves a spec as it was is not
looked at, so that what older rules let in stays.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from .. import fields
from ..errors import Cause

BAD_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
BAD_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
ZEROS, MAPPED = "must not have leading 0s", "must not be an IPv4-mapped IPv6 address"
RANGE_ZEROS, RANGE_MAPPED = (
    "must not have leading 0s in IP or prefix length", "must not have an IPv4-mapped IPv6 address",
)  # fmt: skip
BITS_BEYOND = "must not have bits set beyond the prefix length"

_FOUR = re.compile(r"0*\d{1,3}(\.0*\d{1,3}){3}")
_ZERO = re.compile(r"(?<![0-9a-fA-F:])0+(?=[0-9])")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def parse_ip(value: Any) -> Address | None:
    """The address, None if it is none."""
    try:
        return ip_address(value) if isinstance(value, str) and "%" not in value else None
    except ValueError:
        return None


def _sloppy(value: Any) -> Address | None:
    """As `parse_ip`, but for leading zeros, which upstream's parser passes over."""
    found = parse_ip(value)
    if found is None and isinstance(value, str) and _FOUR.fullmatch(value):
        return parse_ip(_ZERO.sub("", value))
    return found


def check_ip(value: Any, path: str, out: list[Cause]) -> None:
    address = _sloppy(value)
    if address is None:
        out.append(fields.invalid(path, value or "", BAD_IP))
    elif parse_ip(value) is None:
        out.append(fields.invalid(path, value, ZEROS))
    elif isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        out.append(fields.invalid(path, value, MAPPED))


def canonical_problems(value: str) -> list[str]:
    """Why this is no address as new fields want it (IsValidIP)."""
    out: list[Cause] = []
    check_ip(value, "", out)
    if out:
        return [cause.text.partition(": ")[2].partition(": ")[2] for cause in out]
    text = str(parse_ip(value))
    return [] if text == value else [f"must be in canonical form ({fields.quote(text)})"]


def parse_range(value: Any) -> Network | None:
    """The range, with bits beyond its mask or not; None if it is none."""
    head, slash, length = value.partition("/") if isinstance(value, str) else ("", "", "")
    address = _sloppy(head)
    if not slash or address is None or not (length.isascii() and length.isdigit()):
        return None
    try:
        return ip_network(f"{address}/{int(length)}", strict=False)
    except ValueError:
        return None


def check_cidr(value: str, path: str, out: list[Cause]) -> Network | None:
    """The range, None if it is none; one that is doubtful is refused, and returned."""
    network = parse_range(value)
    if network is None:
        out.append(fields.invalid(path, value, BAD_CIDR))
        return None
    head, _, length = value.partition("/")
    address = parse_ip(head)
    if address is None or (len(length) > 1 and length[0] == "0"):
        out.append(fields.invalid(path, value, RANGE_ZEROS))
    elif isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        out.append(fields.invalid(path, value, RANGE_MAPPED))
    elif address != network.network_address:
        out.append(fields.invalid(path, value, BITS_BEYOND))
    return network


def check_canonical_cidr(value: str, path: str, out: list[Cause]) -> None:
    """A range as new fields want it (IsValidCIDR)."""
    before = len(out)
    network = check_cidr(value, path, out)
    if len(out) == before and str(network) != value:
        text = fields.quote(str(network))
        out.append(fields.invalid(path, value, f"must be in canonical form ({text})"))


def check_ordinary_ip(value: str, path: str, out: list[Cause]) -> None:
    """Endpoints and external addresses may be neither loopback nor link-local."""
    address = parse_ip(value)
    if address is None:
        out.append(fields.invalid(path, value, "must be a valid IP address"))
        return
    for bad, why in (
        (address.is_unspecified, f"may not be unspecified ({value})"),
        (address.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (
            address.is_link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            value.startswith("224.0.0.") or value.lower().startswith("ff02:"),
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ):
        if bad:
            out.append(fields.invalid(path, value, why))


def dual_stack(addresses: list[str]) -> bool:
    """Is there an address of each family?"""
    return {getattr(parse_ip(item), "version", 0) for item in addresses} == {4, 6}
