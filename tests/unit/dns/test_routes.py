"""Stub domains and name servers: read as upstream's guide has them, refused in words."""

from __future__ import annotations

import pytest

from sampan.dns.routes import Routes, parse_routes

OWN = ("10.96.0.10",)


def test_the_longest_domain_counts() -> None:
    routes = parse_routes(
        {
            "stubDomains": '{"acme.Local.": ["1.2.3.4"], "eu.acme.local": ["1.2.3.5:5353"]}',
            "upstreamNameservers": '["8.8.8.8", "[fd00::1]:54"]',
        },
        OWN,
    )
    assert routes.servers("acme.local") == (("1.2.3.4", 0),)
    assert routes.servers("a.acme.local") == (("1.2.3.4", 0),)
    assert routes.servers("a.eu.acme.local") == (("1.2.3.5", 5353),)
    assert routes.servers("notacme.local") == (("8.8.8.8", 0), ("fd00::1", 54))
    assert parse_routes({}, OWN) == Routes()
    assert Routes().servers("x") == ()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"stubDomains": "{"}, "stubDomains: Expecting"),
        ({"stubDomains": "[]"}, "stubDomains: not a JSON object"),
        ({"stubDomains": '{"a": []}'}, "not a list of servers"),
        ({"upstreamNameservers": '["ns.example"]'}, "'ns.example' is not an address"),
        ({"upstreamNameservers": '["1.2.3.4:99999"]'}, "is not an address"),
        ({"upstreamNameservers": "[7]"}, "7 is not an address"),
        ({"stubDomains": '{"a": ["10.96.0.10"]}'}, "is this server itself"),
    ],
)
def test_nonsense_is_refused_in_words(data: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=r".+") as error:
        parse_routes(data, OWN)
    assert why in str(error.value)


def test_another_port_of_this_machine_may_be_somebody_elses() -> None:
    routes = parse_routes({"stubDomains": '{"a": ["10.96.0.10:5353"]}'}, OWN)
    assert routes.servers("a") == (("10.96.0.10", 5353),)
