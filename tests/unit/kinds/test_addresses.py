"""Addresses and ranges that can be read in two ways are refused (KEP-4858)."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import Cause
from sampan.api.kinds.addresses import (
    canonical_problems,
    check_canonical_cidr,
    check_cidr,
    check_ip,
)
from sampan.api.resources import resource

BAD_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
BAD_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def said(check: Any, value: str) -> str:
    out: list[Cause] = []
    check(value, "p", out)
    return "; ".join(str(cause).removeprefix(f'p: Invalid value: "{value}": ') for cause in out)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("10.0.0.1", ""),
        ("fd00::1", ""),
        ("FD00:0::1", ""),
        ("010.0.0.1", "must not have leading 0s"),
        ("10.0.0.007", "must not have leading 0s"),
        ("10.0.0.0", ""),
        ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
        ("300.0.0.1", BAD_IP),
        ("fe80::1%eth0", BAD_IP),
        ("", BAD_IP),
    ],
)
def test_addresses(value: str, why: str) -> None:
    assert said(check_ip, value) == why


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("10.0.0.0/8", ""),
        ("0.0.0.0/0", ""),
        ("fd00::/8", ""),
        ("FD00::/8", ""),
        ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
        ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
        ("010.0.0.0/8", "must not have leading 0s in IP or prefix length"),
        ("::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address"),
        ("10.0.0.0", BAD_CIDR),
        ("10.0.0.0/33", BAD_CIDR),
        ("10.0.0.0/-1", BAD_CIDR),
        ("/8", BAD_CIDR),
    ],
)
def test_ranges(value: str, why: str) -> None:
    assert said(check_cidr, value) == why


def test_new_fields_want_one_form() -> None:
    assert canonical_problems("10.0.0.1") == []
    assert canonical_problems("FD00::1") == ['must be in canonical form ("fd00::1")']
    assert canonical_problems("x") == [BAD_IP]
    assert said(check_canonical_cidr, "FD00::/8") == 'must be in canonical form ("fd00::/8")'
    assert said(check_canonical_cidr, "10.1.0.0/8") == (
        "must not have bits set beyond the prefix length"
    )


def problems(plural: str, obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    rules = resource(plural, "networking.k8s.io").rules
    return [str(cause) for cause in rules.validate({"metadata": {"name": "x"}, **obj}, old)]


def test_a_block_and_its_holes() -> None:
    block = {"cidr": "10.0.0.1/8", "except": ["10.1.0.0/16", "x", "11.0.0.0/16", "10.0.0.0/8"]}
    spec = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": block}]}]}
    path = "spec.ingress[0].from[0].ipBlock"
    subset = "must be a strict subset of `cidr`"
    assert problems("networkpolicies", {"spec": spec}) == [
        f'{path}.cidr: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix '
        "length",
        f'{path}.except[1]: Invalid value: "x": {BAD_CIDR}',
        f'{path}.except[2]: Invalid value: "11.0.0.0/16": {subset}',
        f'{path}.except[3]: Invalid value: "10.0.0.0/8": {subset}',
    ]
    # What is stored stays as long as the spec does.
    assert problems("networkpolicies", {"spec": spec}, {"spec": spec}) == []


def ranges(*texts: str) -> dict[str, Any]:
    return {"spec": {"cidrs": list(texts)}}


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (ranges("10.0.0.0/8", "fd00::/64"), ranges("10.0.0.0/8"), []),
        (
            ranges("10.0.0.0/8"), ranges("10.0.0.0/8", "fd00::/64"),
            ['spec.cidrs: Invalid value: ["10.0.0.0/8"]: field is immutable'],
        ),
        (
            ranges("11.0.0.0/8"), ranges("10.0.0.0/8"),
            ['spec.cidrs[0]: Invalid value: "11.0.0.0/8": field is immutable'],
        ),
    ],
)  # fmt: skip
def test_ranges_of_services_may_only_get_a_second_family(
    new: dict[str, Any], old: dict[str, Any], expected: list[str]
) -> None:
    assert problems("servicecidrs", new, old) == expected


def test_an_address_is_named_by_itself() -> None:
    obj = {"metadata": {"name": "10.0.0.01"}, "spec": {"parentRef": {"resource": "a", "name": "b"}}}
    assert problems("ipaddresses", obj) == [
        'metadata.name: Invalid value: "10.0.0.01": must not have leading 0s'
    ]
