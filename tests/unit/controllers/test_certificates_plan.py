"""Who gets a certificate without a person's approval: nodes, for themselves, and no further."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.api.times import format_time
from sampan.controllers.certificates_plan import (
    CLIENT,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    LEGACY,
    Subject,
    access_review,
    gone_at_s,
    own_addresses,
    recognized,
    refusal,
    serving_approval,
    validity_s,
)

NODE = "system:node:n1"
OWN = frozenset({"192.0.2.1"})


def ask(signer: str, username: str, *groups: str) -> Object:
    purpose = "client auth" if signer == KUBELET_CLIENT else "server auth"
    usages = ["digital signature", purpose]
    return {
        "spec": {"signerName": signer, "username": username, "groups": groups, "usages": usages}
    }


def subject(**names: Any) -> Subject:
    return Subject(NODE, ["system:nodes"], **names)


@pytest.mark.parametrize(
    ("request_", "names", "asked"),
    [
        (ask(KUBELET_CLIENT, NODE, "system:nodes"), {}, ["selfnodeclient", "nodeclient"]),
        (ask(KUBELET_CLIENT, "system:bootstrap:abc", "any"), {}, ["nodeclient"]),
        (ask(KUBELET_CLIENT, "system:node:n2", "system:nodes"), {}, ["nodeclient"]),
        (ask(KUBELET_CLIENT, NODE, "system:nodes"), {"dns": ["n1"]}, []),
        (ask(KUBELET_SERVING, NODE, "system:nodes"), {"dns": ["n1"]}, []),
        (ask(CLIENT, NODE, "system:nodes"), {}, []),
    ],
)
def test_what_is_asked_about_a_node(
    request_: Object, names: dict[str, Any], asked: list[str]
) -> None:
    assert [what.subresource for what in recognized(request_, subject(**names))] == asked


def test_the_review_is_about_the_author() -> None:
    request = ask(KUBELET_CLIENT, "u", "g")
    request["spec"] |= {"uid": "1", "extra": {"k": ["v"]}}
    spec = access_review(request, recognized(request, subject())[0])["spec"]
    assert spec == {
        "user": "u",
        "uid": "1",
        "groups": ("g",),
        "extra": {"k": ["v"]},
        "resourceAttributes": {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "subresource": "nodeclient",
            "verb": "create",
        },
    }


@pytest.mark.parametrize(
    ("request_", "names", "approved"),
    [
        (ask(KUBELET_SERVING, NODE, "system:nodes"), {"dns": ["n1"]}, True),
        (ask(KUBELET_SERVING, NODE, "system:nodes"), {"ips": ["192.0.2.1"]}, True),
        (ask(KUBELET_SERVING, NODE, "system:nodes"), {"ips": ["192.0.2.2"]}, False),
        (ask(KUBELET_SERVING, NODE, "system:nodes"), {"dns": ["n1", "kubernetes"]}, False),
        (ask(KUBELET_SERVING, "system:node:n2", "system:nodes"), {"dns": ["n1"]}, False),
        (ask(KUBELET_SERVING, NODE), {"dns": ["n1"]}, False),
        (ask(KUBELET_CLIENT, NODE, "system:nodes"), {}, False),
    ],
)
def test_serving_certificates(request_: Object, names: dict[str, Any], approved: bool) -> None:
    assert bool(serving_approval(request_, subject(**names), OWN)) == approved


@pytest.mark.parametrize(
    ("signer", "usages", "message"),
    [
        (CLIENT, ["client auth"], ""),
        (CLIENT, ["digital signature"],
         "missing required usage for client certificate: client auth"),
        (CLIENT, ["server auth"], "invalid usage for client certificate: server auth"),
        (KUBELET_CLIENT, ["client auth"],
         "usages did not match [client auth digital signature key encipherment]"),
        (KUBELET_CLIENT, ["client auth", "digital signature", "key encipherment"], ""),
        (KUBELET_CLIENT, ["client auth", "digital signature", "any"],
         "usages did not match [client auth digital signature key encipherment]"),
        (LEGACY, ["server auth", "any"], ""),
    ],
)  # fmt: skip
def test_usages(signer: str, usages: list[str], message: str) -> None:
    assert refusal({"spec": {"signerName": signer, "usages": usages}}, subject()) == message


@pytest.mark.parametrize(
    ("asked", "length_s"), [(None, 365 * 86400), (2**31, 365 * 86400), (1, 600), (86400, 86400)]
)
def test_a_certificate_lasts_as_asked_and_no_longer(asked: int | None, length_s: float) -> None:
    begins, ends = validity_s({"spec": {"expirationSeconds": asked}}, 1e9)
    assert begins == 1e9 - 300
    assert ends == 1e9 + length_s - (300 if length_s > 8 * 3600 else 0)


def answered(created_s: float, kind: str = "", at_s: float = 0.0, certificate: str = "") -> Object:
    item = {"type": kind, "lastUpdateTime": format_time(at_s)}
    status: Object = {"conditions": [item] if kind else [], "certificate": certificate}
    return {"metadata": {"creationTimestamp": format_time(created_s)}, "status": status}


@pytest.mark.parametrize(
    ("request_", "expires_s", "gone_s"),
    [
        (answered(0), None, 86400),
        (answered(0, "Denied", 50), None, 3650),
        (answered(0, "Failed", 50), None, 3650),
        (answered(0, "Approved", 50), None, 86450),
        (answered(0, "Approved", 50, "x"), 9e9, 3650),
        (answered(0, "Approved", 50, "x"), 700, 700),
    ],
)
def test_when_a_request_is_cleaned_up(
    request_: Object, expires_s: float | None, gone_s: float
) -> None:
    assert gone_at_s(request_, expires_s) == gone_s


def node(name: str, *addresses: str) -> Object:
    found = [{"type": "InternalIP", "address": item} for item in addresses]
    return {"metadata": {"name": name}, "status": {"addresses": found}}


def test_a_claimed_address_is_not_an_own_one() -> None:
    nodes = [
        node("n1", "192.0.2.1", "192.0.2.2", "10.96.0.1", "127.0.0.1"),
        node("n2", "192.0.2.2"),
    ]
    assert own_addresses("n1", nodes, ["10.96.0.1"]) == {"192.0.2.1"}
    assert own_addresses("n3", nodes, []) == frozenset()
