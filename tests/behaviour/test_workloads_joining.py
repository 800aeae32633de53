"""What a new node needs: its share of the pod network, and its certificates."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.controllers.nodeipam import Shares
from sampan.server.exchange import User
from tests.kit.cluster import server_files

from .workload_kit import NODES, World, world

REQUESTS = resource("certificatesigningrequests", "certificates.k8s.io")
CLIENT_USAGES = ["digital signature", "client auth"]


def csr(name: str, organization: str = "system:nodes", dns: str = "") -> str:
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if dns:
        names = x509.SubjectAlternativeName([x509.DNSName(dns)])
        builder = builder.add_extension(names, critical=False)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def odd_csr(*names: str, alternative: bytes = b"") -> str:
    """Of several common names, or with an extension of subjectAltName that is these bytes."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes")]
    attributes += [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if alternative:
        oid = ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        extension = x509.UnrecognizedExtension(oid, alternative)
        builder = builder.add_extension(extension, critical=False)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def ca() -> dict[str, Any]:
    return {"ca_cert": server_files() / "ca.crt", "ca_key": server_files() / "ca.key"}


async def ask(w: World, request: str, signer: str, usages: list[str], *, approve: bool) -> Object:
    """Ask as the administrator, who is not a node: nothing is approved by itself."""
    spec = {"request": request, "signerName": f"kubernetes.io/{signer}", "usages": usages}
    await w.client.create(REQUESTS, {"metadata": {"name": "r"}, "spec": spec})
    found = await w.client.get(REQUESTS, "r")
    if approve:
        condition = {"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}
        body = {**found, "status": {"conditions": [condition]}}
        await w.client.update(REQUESTS, body, "approval")
    cache = w.cache(REQUESTS.plural, REQUESTS.group)

    def answered() -> Object | None:
        status = (cache.get("", "r") or {}).get("status") or {}
        kinds = {item["type"] for item in status.get("conditions") or ()}
        return status if status.get("certificate") or "Failed" in kinds else None

    status: Object = await w.until(answered)
    return status


async def test_an_approved_request_is_signed() -> None:
    async with world(**ca()) as w:
        status = await ask(
            w, csr("system:node:n1"), "kube-apiserver-client-kubelet", CLIENT_USAGES, approve=True
        )
        pem = base64.b64decode(status["certificate"])
        certificate = x509.load_pem_x509_certificate(pem)
        authority = x509.load_pem_x509_certificate((server_files() / "ca.crt").read_bytes())
        certificate.verify_directly_issued_by(authority)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert [item.dotted_string for item in usage] == ["1.3.6.1.5.5.7.3.2"]
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        assert authority.value.key_identifier
        assert not limits.ca


@pytest.mark.parametrize(
    ("request_pem", "signer", "usages", "message"),
    [
        (csr("system:node:n1", "system:masters"), "kube-apiserver-client-kubelet", CLIENT_USAGES,
         "subject organization is not system:nodes"),
        (csr("root"), "kube-apiserver-client-kubelet", CLIENT_USAGES,
         "subject common name does not begin with system:node:"),
        (csr("system:node:n1", dns="api"), "kube-apiserver-client-kubelet", CLIENT_USAGES,
         "DNS subjectAltNames are not allowed"),
        (csr("system:node:n1"), "kubelet-serving", ["digital signature", "server auth"],
         "DNS or IP subjectAltName is required"),
        (odd_csr("system:node:n1", "root"), "kube-apiserver-client-kubelet", CLIENT_USAGES,
         "subject common name does not begin with system:node:"),
        (odd_csr("system:node:n1", alternative=bytes.fromhex("3002a300")), "kubelet-serving",
         ["digital signature", "server auth"],
         "unable to parse csr: x400Address/EDIPartyName are not supported types"),
        (csr("root", dns="n1"), "kubelet-serving", ["digital signature", "server auth"],
         "subject common name does not begin with system:node:"),
    ],
)  # fmt: skip
async def test_what_a_signer_refuses(
    request_pem: str, signer: str, usages: list[str], message: str
) -> None:
    async with world(**ca()) as w:
        status = await ask(w, request_pem, signer, usages, approve=True)
        assert "certificate" not in status
        [failed] = [item for item in status["conditions"] if item["type"] == "Failed"]
        assert (failed["reason"], failed["message"]) == ("SignerValidationFailure", message)


async def test_a_new_node_is_approved_if_its_author_may() -> None:
    """By the right to create certificatesigningrequests/nodeclient, not by a group's name."""
    body: Object = {"request": csr("system:node:n1"), "usages": CLIENT_USAGES}
    body["signerName"] = "kubernetes.io/kube-apiserver-client-kubelet"
    async with world(**ca()) as w:
        for author in ("stranger", "joiner"):
            await bind(w, author, "system:node-bootstrapper")
        await bind(w, "joiner", "system:certificates.k8s.io:certificatesigningrequests:nodeclient")
        cache = w.cache(REQUESTS.plural, REQUESTS.group)
        for author in ("stranger", "joiner"):
            answer = await w.cluster.http(
                "POST",
                "/apis/certificates.k8s.io/v1/certificatesigningrequests",
                {"metadata": {"name": author}, "spec": body},
                user=User(author, ("system:bootstrappers", "system:authenticated")),
            )
            assert answer.status == 201, answer.message
        await w.until(lambda: (cache.get("", "joiner") or {})["status"].get("certificate"))
        [condition] = (cache.get("", "joiner") or {})["status"]["conditions"]
        message = "Auto approving kubelet client certificate after SubjectAccessReview."
        assert (condition["reason"], condition["message"]) == ("AutoApproved", message)
        assert not (cache.get("", "stranger") or {})["status"].get("conditions")


async def bind(w: World, user: str, role: str) -> None:
    group = "rbac.authorization.k8s.io"
    await w.client.create(
        resource("clusterrolebindings", group),
        {
            "metadata": {"generateName": "b-"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
        },
    )


async def test_nodes_get_shares_that_do_not_overlap() -> None:
    async with world(pod_cidr="10.244.0.0/22", pod_cidr6="fd00:1::/62") as w:
        given = {"metadata": {"name": "first"}, "spec": {"podCIDR": "10.244.1.0/24"}}
        await w.client.create(NODES, given)
        for name in "abcd":
            await w.client.create(NODES, {"metadata": {"name": name}})
        nodes = w.cache("nodes")

        def shares() -> list[str]:
            found = (node["spec"].get("podCIDR") for node in nodes.list())
            return sorted(item for item in found if item)

        every = [f"10.244.{number}.0/24" for number in range(4)]
        await w.until(lambda: shares() == every)
        left = next(node for node in nodes.list() if not node["spec"].get("podCIDR"))
        await w.client.delete(NODES, "first")
        await w.until(lambda: nodes.get("", "first") is None and shares() == every)
        found = nodes.get("", left["metadata"]["name"])
        assert found is not None
        assert found["spec"]["podCIDRs"] == ["10.244.1.0/24", "fd00:1:0:1::/64"]


def test_shares_are_given_once_and_come_back() -> None:
    assert Shares("10.0.0.0/26").next() == "10.0.0.0/26"
    assert Shares("10.0.0.0/26", "10.0.0.0/26").next() is None
    shares = Shares("10.0.0.0/22", "10.0.0.0/24")
    shares.take("10.0.1.128/25")
    assert shares.next() == "10.0.2.0/24"
    shares.take("10.0.2.0/23")
    assert shares.next() is None
    shares.take("10.0.1.0/24")
    shares.give_back("10.0.1.128/25")
    assert shares.next() is None
    shares.give_back("10.0.1.0/24")
    assert shares.next() == "10.0.1.0/24"
    shares.take("192.168.0.0/24")
    shares.take("fd00::/64")
    assert shares.next() == "10.0.1.0/24"
