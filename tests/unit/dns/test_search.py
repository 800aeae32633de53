"""The search list as a pod has it, walked by the server."""

from __future__ import annotations

from sampan.dns.search import candidates, search_of

DOMAIN = "cluster.local"


def test_the_names_a_pod_tries_next() -> None:
    assert candidates("example.com.ns.svc.cluster.local", "ns", DOMAIN, ["corp.test"]) == [
        "example.com.svc.cluster.local",
        "example.com.cluster.local",
        "example.com.corp.test",
        "example.com",
    ]


def test_only_the_first_try_of_a_pods_own_list_is_walked() -> None:
    for name in (
        "example.com.other.svc.cluster.local",
        "example.com.svc.cluster.local",
        "ns.svc.cluster.local",
        "example.com",
        "a.b.c.d.e.f.ns.svc.cluster.local",
    ):
        assert candidates(name, "ns", DOMAIN, []) == []
    assert candidates("a.ns.svc.cluster.local", "", DOMAIN, []) == []


def test_the_last_search_line_counts() -> None:
    assert search_of("search a.test\nnameserver 1.2.3.4\nsearch B.test. .\n") == ("b.test",)
    assert search_of("") == ()
