"""Who gets a certificate without a person's approval: nodes, for themselves, and no further."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.controllers.certificates_plan import (
    KUBELET_CLIENT,
    KUBELET_SERVING,
    Subject,
    approval,
    own_addresses,
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
    ("request_", "names", "approved"),
    [
        (ask(KUBELET_CLIENT, NODE, "system:nodes"), {}, True),
        (ask(KUBELET_CLIENT, "system:bootstrap:abc", "system:bootstrappers"), {}, True),
        (ask(KUBELET_CLIENT, "x", "system:bootstrappers:worker"), {}, True),
        (ask(KUBELET_CLIENT, "x", "system:bootstrappersx"), {}, False),
        (ask(KUBELET_CLIENT, "system:node:n2", "system:nodes"), {}, False),
        (ask(KUBELET_CLIENT, "admin", "system:masters"), {}, False),
        (ask(KUBELET_SERVING, NODE, "system:nodes"), {"dns": ["n1"]}, True),
        (ask(KUBELET_SERVING, NODE, "system:nodes"), {"ips": ["192.0.2.1"]}, True),
        (ask(KUBELET_SERVING, NODE, "system:nodes"), {"ips": ["192.0.2.2"]}, False),
        (ask(KUBELET_SERVING, NODE, "system:nodes"), {"dns": ["n1", "kubernetes"]}, False),
        (ask(KUBELET_SERVING, NODE), {"dns": ["n1"]}, False),
        (ask("kubernetes.io/kube-apiserver-client", NODE, "system:nodes"), {}, False),
    ],
)
def test_approval(request_: Object, names: dict[str, Any], approved: bool) -> None:
    assert bool(approval(request_, subject(**names), OWN)) == approved


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
