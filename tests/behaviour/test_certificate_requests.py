"""Certificate requests at the server: what each sub-resource takes, and who may decide."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.server.exchange import User
from tests.kit.clock import FakeClock
from tests.kit.cluster import ADMIN, Answer, Cluster, api_cluster, server_files

from .test_workloads_joining import csr

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
MERGE = "application/merge-patch+json"
CERTIFICATE = base64.b64encode((server_files() / "ca.crt").read_bytes()).decode()


def pem(kind: str, body: bytes) -> str:
    text = base64.b64encode(body).decode()
    return base64.b64encode(
        f"-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n".encode()
    ).decode()


async def ask(cluster: Cluster, request: str = "", **spec: Any) -> Answer:
    spec = {"signerName": "example.com/x", "usages": ["client auth"], **spec}
    body = {"metadata": {"name": "r"}, "spec": {"request": request or csr("ann"), **spec}}
    return await cluster.http("POST", PATH, body)


async def patch(cluster: Cluster, part: str, status: Object) -> Answer:
    body = {"status": status}
    return await cluster.http("PATCH", f"{PATH}/r/{part}", body, user=ADMIN, content_type=MERGE)


def condition(kind: str, **more: str) -> Object:
    return {"type": kind, "status": "True", "reason": "Test", **more}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("", "PEM block type must be CERTIFICATE REQUEST"),
        ("!", "PEM block type must be CERTIFICATE REQUEST"),
        (pem("CERTIFICATE", b"x"), "PEM block type must be CERTIFICATE REQUEST"),
        (pem("CERTIFICATE REQUEST", b"abc"), 'spec.request: Invalid value: "'),
    ],
)
async def test_a_request_is_read_when_it_is_made(request_: str, message: str) -> None:
    async with api_cluster() as cluster:
        answer = await ask(cluster, request_ or " ")
        assert answer.status in (400, 422)
        assert message in answer.message or answer.status == 400


async def test_what_is_checked_of_a_request_is_what_is_signed() -> None:
    """Its first block; the library that signs reads NEW CERTIFICATE REQUEST too."""
    first, second = (base64.b64decode(csr("ann", group)) for group in ("system:masters", "dev"))
    both = first.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST") + second
    async with api_cluster() as cluster:
        signer = "kubernetes.io/kube-apiserver-client"
        answer = await ask(cluster, base64.b64encode(both).decode(), signerName=signer)
        assert answer.status in (403, 422)
        assert "PEM block type must be CERTIFICATE REQUEST" in answer.message


async def test_a_signature_that_is_another_s_is_refused() -> None:
    ours = bytearray(base64.b64decode(base64.b64decode(csr("ann")).split(b"-----")[2]))
    ours[ours.index(b"ann")] ^= 1
    async with api_cluster() as cluster:
        answer = await ask(cluster, pem("CERTIFICATE REQUEST", bytes(ours)))
        assert answer.status == 422
        assert "spec.request" in answer.message


async def test_status_decides_nothing() -> None:
    """Who may write /status must not approve by it: that takes the right to approve."""
    async with api_cluster() as cluster:
        await ask(cluster)
        for kind in ("Approved", "Denied"):
            answer = await patch(cluster, "status", {"conditions": [condition(kind)]})
            assert answer.status == 422
            assert f'updates may not add a condition of type "{kind}"' in answer.message
        assert (await patch(cluster, "approval", {"conditions": [condition("Approved")]})).status
        changed = condition("Approved", message="changed")
        answer = await patch(cluster, "status", {"conditions": [changed, condition("Failed")]})
        assert answer.status == 200, answer.message
        approved, failed = answer.json["status"]["conditions"]
        assert "message" not in approved, "what was decided stays word for word"
        assert failed["type"] == "Failed"
        for part in ("status", "approval"):
            answer = await patch(cluster, part, {"conditions": []})
            assert 'updates may not remove a condition of type "Approved"' in answer.message


async def test_what_is_decided_is_decided_once() -> None:
    async with api_cluster() as cluster:
        await ask(cluster)
        both = [condition("Approved"), condition("Denied")]
        answer = await patch(cluster, "approval", {"conditions": both})
        assert "Approved and Denied conditions are mutually exclusive" in answer.message
        no = {**condition("Denied"), "status": "False"}
        answer = await patch(cluster, "approval", {"conditions": [no]})
        assert 'Unsupported value: "False": supported values: "True"' in answer.message
        body = {"conditions": [condition("Denied")], "certificate": CERTIFICATE}
        answer = await patch(cluster, "approval", body)
        assert answer.status == 200
        assert "certificate" not in answer.json["status"], "approval takes no certificate"


async def test_certificates_are_read_and_set_once() -> None:
    async with api_cluster() as cluster:
        await ask(cluster)
        for bad, why in (
            (base64.b64encode(b"abc").decode(), "must contain at least one CERTIFICATE PEM block"),
            (pem("PRIVATE KEY", b"x"), 'only CERTIFICATE PEM blocks are allowed, found "PRIVATE'),
            (pem("CERTIFICATE", b"x"), "status.certificate"),
        ):
            answer = await patch(cluster, "status", {"certificate": bad})
            assert answer.status == 422
            assert why in answer.message.replace('\\"', '"')
        assert (await patch(cluster, "status", {"certificate": CERTIFICATE})).status == 200
        answer = await patch(cluster, "status", {"certificate": None})
        assert "updates may not modify existing certificate content" in answer.message


async def test_conditions_get_their_times() -> None:
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        await ask(cluster)
        answer = await patch(cluster, "approval", {"conditions": [condition("Approved")]})
        [first] = answer.json["status"]["conditions"]
        assert first["lastUpdateTime"] == first["lastTransitionTime"]
        await clock.advance(60)
        again = [condition("Approved", message="more"), condition("Failed")]
        answer = await patch(cluster, "approval", {"conditions": again})
        approved, failed = answer.json["status"]["conditions"]
        assert approved["message"] == "more"
        assert approved["lastTransitionTime"] == first["lastTransitionTime"]
        assert approved["lastUpdateTime"] == failed["lastTransitionTime"]
        assert approved["lastUpdateTime"] > first["lastUpdateTime"]


async def test_only_signers_change_what_is_said_of_a_request() -> None:
    async with api_cluster() as cluster:
        await ask(cluster)
        rule = {"apiGroups": ["certificates.k8s.io"], "verbs": ["*"],
                "resources": ["certificatesigningrequests/status"]}  # fmt: skip
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        role = {"metadata": {"name": "r"}, "rules": [rule]}
        binding = {"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
                   "subjects": [{"kind": "User", "name": "ann"}]}  # fmt: skip
        await cluster.http("POST", f"{rbac}/clusterroles", role)
        await cluster.http("POST", f"{rbac}/clusterrolebindings", binding)
        path, ann = f"{PATH}/r/status", User("ann", ())
        body: Object = {"status": {"conditions": [condition("Odd")]}}
        answer = await cluster.http("PATCH", path, body, user=ann, content_type=MERGE)
        assert answer.message.endswith(
            'user not permitted to sign requests with signerName "example.com/x"'
        )


async def test_nobody_is_approved_by_what_they_send() -> None:
    forged = {"conditions": [condition("Approved")], "certificate": CERTIFICATE}
    async with api_cluster() as cluster:
        spec = {"signerName": "example.com/x", "usages": ["client auth"], "request": csr("ann")}
        body: Object = {"metadata": {"name": "r"}, "spec": spec, "status": forged}
        made = await cluster.http("POST", PATH, body)
        assert (made.status, made.json["status"]) == (201, {})
        answer = await cluster.http("PUT", f"{PATH}/r", {**made.json, "status": forged})
        assert (answer.status, answer.json["status"]) == (200, {})
        other = {**made.json, "spec": {**made.json["spec"], "username": "root", "groups": ["g"]}}
        for part in ("", "/status", "/approval"):
            body = {**other, "metadata": {"name": "r"}, "status": {}}
            answer = await cluster.http("PUT", f"{PATH}/r{part}", body)
            assert answer.status == 200, answer.message
            assert answer.json["spec"] == made.json["spec"]
