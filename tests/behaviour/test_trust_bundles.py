"""ClusterTrustBundles at the server: who may speak for a signer, and how they are found
(test/e2e/auth/clustertrustbundle.go, test/integration/clustertrustbundles)."""

from __future__ import annotations

from typing import Any

from sampan.server.exchange import User
from tests.kit.cluster import Answer, Cluster, api_cluster, server_files

GROUP = "/apis/certificates.k8s.io/v1beta1"
PATH = f"{GROUP}/clustertrustbundles"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
CA = (server_files() / "ca.crt").read_text()
ANN = User("ann", ("system:authenticated",))
ACCOUNT = User("system:serviceaccount:ns:x", ("system:serviceaccounts", "system:authenticated"))
MERGE = "application/merge-patch+json"


def bundle(name: str, signer: str = "") -> dict[str, Any]:
    spec = {"trustBundle": CA} | ({"signerName": signer} if signer else {})
    return {"metadata": {"name": name}, "spec": spec}


async def allow(cluster: Cluster, verbs: list[str], resource: str, *names: str) -> None:
    rule: dict[str, Any] = {"apiGroups": ["certificates.k8s.io"], "verbs": verbs}
    rule |= {"resources": [resource]} | ({"resourceNames": [*names]} if names else {})
    role = f"{resource}-{len(names)}"
    meta = {"metadata": {"name": role}}
    made = await cluster.http("POST", f"{ROLES}/clusterroles", {**meta, "rules": [rule]})
    assert made.status == 201
    subject = {"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}
    body = {**meta, "subjects": [subject], "roleRef": reference}
    assert (await cluster.http("POST", f"{ROLES}/clusterrolebindings", body)).status == 201


async def test_who_writes_for_a_signer_must_be_allowed_to_attest() -> None:
    async with api_cluster() as cluster:
        await allow(cluster, ["create", "patch"], "clustertrustbundles")

        async def post(body: dict[str, Any]) -> Answer:
            return await cluster.http("POST", PATH, body, user=ANN)

        assert (await post(bundle("plain"))).status == 201
        refused = await post(bundle("example.com:s:a", "example.com/s"))
        assert refused.status == 403
        assert refused.message == (
            'clustertrustbundles.certificates.k8s.io "example.com:s:a" is forbidden: '
            'user not permitted to attest for signerName "example.com/s"'
        )
        await allow(cluster, ["attest"], "signers", "example.com/*")
        assert (await post(bundle("example.com:s:a", "example.com/s"))).status == 201
        # What the garbage collector changes says nothing of the signer; labels do.
        await cluster.http("DELETE", f"{ROLES}/clusterrolebindings/signers-1")
        for change, status in (({"finalizers": ["a/b"]}, 200), ({"labels": {"a": "b"}}, 403)):
            answer = await cluster.http(
                "PATCH", f"{PATH}/example.com:s:a", {"metadata": change},
                user=ANN, content_type=MERGE,
            )  # fmt: skip
            assert answer.status == status


async def test_workloads_find_bundles_by_their_signer() -> None:
    async with api_cluster() as cluster:
        for name, signer in (("plain", ""), ("example.com:s:a", "example.com/s")):
            assert (await cluster.http("POST", PATH, bundle(name, signer))).status == 201
        found = await cluster.http(
            "GET", f"{PATH}?fieldSelector=spec.signerName=example.com/s", user=ACCOUNT
        )
        assert [item["metadata"]["name"] for item in found.json["items"]] == ["example.com:s:a"]
        assert (await cluster.http("GET", PATH, user=ANN)).status == 403
        listed = (await cluster.http("GET", GROUP)).json["resources"]
        assert [item["name"] for item in listed] == ["clustertrustbundles"]
