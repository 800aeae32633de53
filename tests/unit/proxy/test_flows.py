"""Which UDP flows a change leaves behind."""

from __future__ import annotations

from sampan.linux.conntrack import Flow
from sampan.proxy.flows import stale_flows
from sampan.proxy.rules import NOTHING, Rules

ENDPOINT = ("10.244.0.5", 53)


def dns(verdict: str, *endpoints: tuple[str, int]) -> Rules:
    return Rules(
        services={"10.96.0.10 . udp . 53": verdict, "10.96.0.10 . tcp . 53": verdict},
        nodeports={"udp . 30053": verdict},
        chains={},
        hairpins=frozenset(),
        datagrams=frozenset(endpoints),
    )


def test_flows_to_an_endpoint_that_is_gone() -> None:
    assert stale_flows(dns("goto a", ENDPOINT), dns("goto refuse")) == {
        Flow("10.244.0.5", 53, answered=True)
    }
    assert stale_flows(dns("goto a", ENDPOINT), NOTHING) == {Flow(*ENDPOINT, answered=True)}


def test_flows_that_began_before_the_service_had_endpoints() -> None:
    awakened = {Flow("10.96.0.10", 53, answered=False), Flow("", 30053, answered=False)}
    for old in (NOTHING, dns("goto refuse"), dns("drop")):
        assert stale_flows(old, dns("goto a", ENDPOINT)) == awakened


def test_nothing_is_forgotten_when_endpoints_stay() -> None:
    assert stale_flows(dns("goto a", ENDPOINT), dns("goto b", ENDPOINT)) == set()
