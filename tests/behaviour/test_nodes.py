"""The node authoriser and NodeRestriction: an agent sees and writes what is its own node's."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sampan.server.exchange import User
from tests.kit.cluster import Answer, Cluster, api_cluster

NS = "/api/v1/namespaces/default"
NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))
OTHER = User("system:node:n2", ("system:nodes", "system:authenticated"))
NAMELESS = User("system:node:", ("system:nodes", "system:authenticated"))
IMPOSTOR = User("system:node:n1", ("system:authenticated",))
UNRELATED = "no relationship found between node 'n1' and this object"


async def post(cluster: Cluster, path: str, body: Any, **user: Any) -> dict[str, Any]:
    answer = await cluster.http("POST", path, body, **user)
    assert answer.status == 201, answer.message
    found: dict[str, Any] = answer.json
    return found


async def get(cluster: Cluster, path: str, user: User = NODE) -> Answer:
    return await cluster.http("GET", path, user=user)


async def status(cluster: Cluster, path: str, user: User = NODE) -> int:
    return (await get(cluster, path, user)).status


POD: dict[str, Any] = {
    "imagePullSecrets": [{"name": "pull"}],
    "containers": [
        {
            "name": "c",
            "image": "x",
            "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "a"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "a"}}},
            ],
            "envFrom": [{"secretRef": {"name": "from"}}],
        }
    ],
    "volumes": [
        {"name": "s", "secret": {"secretName": "mounted"}},
        {"name": "p", "projected": {"sources": [{"secret": {"name": "projected"}}]}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
    ],
}
SECRETS = ("pull", "env", "from", "mounted", "projected")


async def make_world(cluster: Cluster) -> None:
    """A pod on n1 that names things, and things that nobody names."""
    await post(cluster, f"{NS}/serviceaccounts", {"metadata": {"name": "default"}})
    await post(cluster, f"{NS}/serviceaccounts", {"metadata": {"name": "unused"}})
    for name in (*SECRETS, "behind-volume", "unused"):
        await post(cluster, f"{NS}/secrets", {"metadata": {"name": name}})
    for name in ("map", "unused"):
        await post(cluster, f"{NS}/configmaps", {"metadata": {"name": name}})
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    for name in ("claim", "unused"):
        spec = {**claim, "volumeName": f"volume-{name}", "storageClassName": ""}
        body = {"metadata": {"name": name}, "spec": spec}
        await post(cluster, f"{NS}/persistentvolumeclaims", body)
        source = {
            "driver": "d",
            "volumeHandle": name,
            "nodeStageSecretRef": {"name": "behind-volume", "namespace": "default"},
        }
        volume = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": "default", "name": name},
            "csi": source if name == "claim" else {"driver": "d", "volumeHandle": name},
        }
        body = {"metadata": {"name": f"volume-{name}"}, "spec": volume}
        await post(cluster, "/api/v1/persistentvolumes", body)
    await post(cluster, f"{NS}/pods", {"metadata": {"name": "web"}, "spec": POD})
    await post(cluster, f"{NS}/pods/web/binding", {"target": {"name": "n1"}})
    await post(cluster, f"{NS}/pods", {"metadata": {"name": "unbound"}, "spec": POD})


READABLE = (
    *(f"{NS}/secrets/{name}" for name in (*SECRETS, "behind-volume")),
    f"{NS}/configmaps/map",
    f"{NS}/persistentvolumeclaims/claim",
    "/api/v1/persistentvolumes/volume-claim",
    f"{NS}/pods/web",
)
UNREADABLE = (
    f"{NS}/secrets/unused",
    f"{NS}/configmaps/unused",
    f"{NS}/persistentvolumeclaims/unused",
    "/api/v1/persistentvolumes/volume-unused",
    f"{NS}/pods/unbound",
)


async def test_a_node_reads_what_its_pods_name_and_no_more() -> None:
    async with api_cluster() as cluster:
        await make_world(cluster)
        for path in READABLE:
            answer = await get(cluster, path)
            assert answer.status == 200, (path, answer.message)
            for user in (OTHER, NAMELESS, IMPOSTOR):
                assert await status(cluster, path, user) == 403, (path, user.name)
        for path in UNREADABLE:
            answer = await get(cluster, path)
            assert answer.status == 403, path
            assert answer.message.endswith(UNRELATED)
        # By name a list is the same question.
        one = f"{NS}/secrets?fieldSelector=metadata.name%3D"
        assert await status(cluster, f"{one}env") == 200
        assert await status(cluster, f"{one}unused") == 403
        answer = await cluster.http(
            "DELETE", f"{NS}/pods/web", {"gracePeriodSeconds": 0}, user=NODE
        )
        assert answer.status == 200
        for path in READABLE:
            assert await status(cluster, path) == 403, f"{path} is still readable"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (f"{NS}/secrets", "No Object name found"),
        ("/api/v1/secrets", "can only read namespaced object of this type"),
        ("/api/v1/configmaps", "can only read namespaced object of this type"),
        (f"{NS}/persistentvolumeclaims", "can only get individual resources of this type"),
        ("/api/v1/persistentvolumes", "can only get individual resources of this type"),
        ("/api/v1/nodes", "node 'n1' cannot read all nodes, only its own Node object"),
        ("/api/v1/nodes/n2", "node 'n1' cannot read 'n2', only its own Node object"),
        ("/api/v1/pods", "can only list/watch pods with spec.nodeName field selector"),
        (
            "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2",
            "can only list/watch pods with spec.nodeName field selector",
        ),
        (
            "/api/v1/pods?fieldSelector=spec.nodeName!%3Dn1",
            "can only list/watch pods with spec.nodeName field selector",
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2",
            "can only access node lease with the same name as the requesting node",
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/n1",
            'can only access leases in the "kube-node-lease" system namespace',
        ),
        (
            "/apis/storage.k8s.io/v1/csinodes/n2",
            "can only access CSINode with the same name as the requesting node",
        ),
        (
            "/apis/resource.k8s.io/v1/resourceslices",
            "can only list/watch/deletecollection resourceslices with spec.nodeName field selector",
        ),
        ("/apis/storage.k8s.io/v1/volumeattachments/a", UNRELATED),
    ],
)
async def test_a_node_is_told_why_it_may_not(path: str, why: str) -> None:
    async with api_cluster() as cluster:
        await make_world(cluster)
        answer = await get(cluster, path)
        assert answer.status == 403
        assert answer.message.endswith(f": {why}"), answer.message


async def test_a_node_lists_its_own_pods_and_reads_itself() -> None:
    async with api_cluster() as cluster:
        await make_world(cluster)
        await post(cluster, "/api/v1/nodes", {"metadata": {"name": "n1"}}, user=NODE)
        answer = await get(cluster, "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1")
        assert [item["metadata"]["name"] for item in answer.json["items"]] == ["web"]
        assert await status(cluster, "/api/v1/nodes/n1") == 200
        for path in ("/api/v1/services", "/apis/storage.k8s.io/v1/csidrivers"):
            assert await status(cluster, path) == 200
        for path in ("/api/v1/limitranges", "/api/v1/endpoints", "/apis/apps/v1/deployments"):
            assert await status(cluster, path) == 403


async def test_attachments_and_slices_belong_to_the_node_they_name() -> None:
    async with api_cluster() as cluster:
        attachments = "/apis/storage.k8s.io/v1/volumeattachments"
        for node in ("n1", "n2"):
            spec = {
                "attacher": "d",
                "nodeName": node,
                "source": {"persistentVolumeName": "v"},
            }
            await post(cluster, attachments, {"metadata": {"name": f"a-{node}"}, "spec": spec})
        assert await status(cluster, f"{attachments}/a-n1") == 200
        assert await status(cluster, f"{attachments}/a-n2") == 403
        slices = "/apis/resource.k8s.io/v1/resourceslices"

        def slice_of(node: str) -> dict[str, Any]:
            pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
            spec = {"driver": "d.example.com", "nodeName": node, "pool": pool}
            return {"metadata": {"name": f"s-{node}"}, "spec": spec}

        await post(cluster, slices, slice_of("n1"), user=NODE)
        answer = await cluster.http("POST", slices, slice_of("n2"), user=NODE)
        assert "same NodeName as the requesting node" in answer.message
        await post(cluster, slices, slice_of("n2"))
        assert await status(cluster, f"{slices}/s-n1") == 200
        assert await status(cluster, f"{slices}/s-n2") == 403
        assert await status(cluster, f"{slices}?fieldSelector=spec.nodeName%3Dn1") == 200


async def test_a_node_gets_tokens_for_its_pods_and_the_audiences_they_name() -> None:
    async with api_cluster() as cluster:
        await make_world(cluster)
        volume = {
            "name": "t",
            "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]},
        }
        spec = {"containers": [{"name": "c", "image": "x"}], "volumes": [volume]}
        made = await post(cluster, f"{NS}/pods", {"metadata": {"name": "app"}, "spec": spec})
        await post(cluster, f"{NS}/pods/app/binding", {"target": {"name": "n1"}})
        ref = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "app",
            "uid": made["metadata"]["uid"],
        }

        async def ask(account: str, user: User = NODE, **spec: Any) -> Answer:
            body = {"spec": {"boundObjectRef": ref, **spec}}
            return await cluster.http(
                "POST", f"{NS}/serviceaccounts/{account}/token", body, user=user
            )

        issuer = cluster.server.config.issuer
        for audiences in ([], ["vault"], [issuer]):
            answer = await ask("default", audiences=audiences)
            assert answer.status == 201, answer.message
        answer = await ask("default", audiences=["bank"])
        assert answer.message.endswith(
            'audience "bank" not found in pod spec volume, system:node:n1 is not authorized to'
            " request tokens for this audience"
        )
        answer = await ask("default", audiences=["vault", "bank"])
        assert answer.message.endswith("node may only request 0 or 1 audiences")
        assert (await ask("unused")).message.endswith(UNRELATED)
        assert (await ask("default", OTHER)).status == 403


def mirror(node_uid: str, **changes: Any) -> dict[str, Any]:
    owner = {
        "apiVersion": "v1",
        "kind": "Node",
        "name": "n1",
        "uid": node_uid,
        "controller": True,
    }
    meta = {
        "name": "static",
        "annotations": {"kubernetes.io/config.mirror": "x"},
        "ownerReferences": [{**owner, **changes.pop("owner", {})}],
        **changes.pop("meta", {}),
    }
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}], **changes}
    return {"metadata": meta, "spec": spec}


async def test_a_node_makes_mirror_pods_and_no_others() -> None:
    async with api_cluster() as cluster:
        made = await post(cluster, "/api/v1/nodes", {"metadata": {"name": "n1"}}, user=NODE)
        uid = made["metadata"]["uid"]
        await post(cluster, f"{NS}/serviceaccounts", {"metadata": {"name": "default"}})
        env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
        token = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
        refused = {
            "annotation": mirror(uid, meta={"annotations": {}}),
            "spec.nodeName set to itself": mirror(uid, nodeName="n2"),
            "an owner reference set to itself": mirror(uid, meta={"ownerReferences": []}),
            "a controller owner reference": mirror(uid, owner={"controller": False}),
            "must not set blockOwnerDeletion": mirror(uid, owner={"blockOwnerDeletion": True}),
            "UID mismatch": mirror("other"),
            "may not reference service accounts": mirror(uid, serviceAccountName="default"),
            "may not reference secrets": mirror(
                uid, containers=[{"name": "c", "image": "x", "env": env}]
            ),
            "that reference configmaps": mirror(
                uid, volumes=[{"name": "v", "configMap": {"name": "m"}}]
            ),
            "may not use service account token volume": mirror(uid, volumes=[token]),
        }
        for why, body in refused.items():
            answer = await cluster.http("POST", f"{NS}/pods", body, user=NODE)
            assert answer.status == 403, why
            assert why in answer.message
        # What a mirror pod names gives its node nothing.
        await post(cluster, f"{NS}/pods", mirror(uid), user=NODE)


async def test_a_node_cannot_give_itself_claims_by_a_pods_status() -> None:
    async with api_cluster() as cluster:
        await make_world(cluster)
        claims = {"status": {"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "x"}]}}
        answer = await cluster.http(
            "PATCH",
            f"{NS}/pods/web/status",
            claims,
            user=NODE,
            content_type="application/merge-patch+json",
        )
        assert answer.status == 403
        assert "cannot update resource claim statuses" in answer.message


def request_for(name: str) -> str:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()


@pytest.mark.parametrize(("name", "code"), [("system:node:n1", 201), ("system:node:n2", 403)])
async def test_a_node_asks_for_certificates_of_its_own_name(name: str, code: int) -> None:
    async with api_cluster() as cluster:
        spec = {
            "request": request_for(name),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["client auth", "digital signature"],
        }
        answer = await cluster.http(
            "POST",
            "/apis/certificates.k8s.io/v1/certificatesigningrequests",
            {"metadata": {"name": "r"}, "spec": spec},
            user=NODE,
        )
        assert answer.status == code
        if code == 403:
            assert answer.message.endswith("can only create a node CSR with CN=system:node:n1")


async def test_a_node_announces_its_own_dns_server_alone() -> None:
    slices = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"

    def announce(name: str, service: str = "kube-dns") -> dict[str, Any]:
        return {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": [],
            "ports": [],
        }

    async with api_cluster() as cluster:
        await post(cluster, slices, announce("kube-dns-n1"), user=NODE)
        for body in (announce("kube-dns-n2"), announce("kube-dns-n1", "metrics-server")):
            answer = await cluster.http("POST", slices, body, user=NODE)
            assert answer.status == 403, answer.message
        service = {"metadata": {"name": "api"}, "spec": {"ports": [{"port": 1}]}}
        answer = await cluster.http(
            "POST", "/api/v1/namespaces/kube-system/services", service, user=NODE
        )
        assert answer.status == 403


async def test_a_node_that_returns_takes_nobodys_addresses() -> None:
    def node(name: str, share: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"podCIDR": share, "podCIDRs": [share]}}

    async with api_cluster() as cluster:
        await post(cluster, "/api/v1/nodes", node("n1", "10.244.3.0/24"), user=NODE)
        for share in ("10.244.3.0/24", "10.244.3.128/25"):
            answer = await cluster.http("POST", "/api/v1/nodes", node("n2", share), user=OTHER)
            assert answer.status == 403
            why = f"podCIDR {share} overlaps 10.244.3.0/24 of node 'n1'"
            assert answer.message.replace('"', "'").endswith(why)
        await post(cluster, "/api/v1/nodes", node("n2", "10.244.4.0/24"), user=OTHER)
        again = await cluster.http("POST", "/api/v1/nodes", node("n1", "10.244.3.0/24"), user=NODE)
        assert again.status == 409


async def test_a_tunnel_is_a_nodes_own() -> None:
    """Who has one answers for that node's logs and exec, as far as its certificate is checked."""
    async with api_cluster() as cluster:
        answer = await cluster.http("GET", "/sampan/tunnel")
        assert (answer.status, answer.message) == (
            403,
            "only a node may open a tunnel, and only its own",
        )
        assert (await get(cluster, "/sampan/tunnel", IMPOSTOR)).status == 403
        role = {
            "metadata": {"name": "calls"},
            "rules": [{"nonResourceURLs": ["/sampan/tunnel"], "verbs": ["get"]}],
        }
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        await post(cluster, f"{rbac}/clusterroles", role)
        subject = {"kind": "Group", "name": "system:nodes", "apiGroup": "rbac.authorization.k8s.io"}
        ref = {"kind": "ClusterRole", "name": "calls", "apiGroup": "rbac.authorization.k8s.io"}
        binding = {"metadata": {"name": "calls"}, "roleRef": ref, "subjects": [subject]}
        await post(cluster, f"{rbac}/clusterrolebindings", binding)
        plain = await get(cluster, "/sampan/tunnel")
        assert (plain.status, plain.message) == (400, "Upgrade request required")
