"""What a write must pass: namespaces, accounts, priorities, limits, and what nodes may do."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sampan.server.admission import CHAIN, runtimeclass
from sampan.server.admission.switches import allowed
from sampan.server.exchange import User
from tests.kit.cluster import ADMIN, Answer, Cluster, api_cluster, server_files

NS = "/api/v1/namespaces/default"
MASTERS = "system:masters"
NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))
MERGE = "application/merge-patch+json"


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "x"}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


async def post(cluster: Cluster, path: str, body: Any, user: User = ADMIN) -> Answer:
    return await cluster.http("POST", path, body, user=user)


async def patch(cluster: Cluster, path: str, body: Any, user: User = ADMIN) -> Answer:
    return await cluster.http("PATCH", path, body, user=user, content_type=MERGE)


async def make_account(cluster: Cluster, name: str = "default", **fields: Any) -> None:
    answer = await post(cluster, f"{NS}/serviceaccounts", {"metadata": {"name": name}, **fields})
    assert answer.status == 201


def test_every_plugin_has_its_own_name() -> None:
    assert len({plugin.name for plugin in CHAIN}) == len(CHAIN)


async def test_namespaces_must_be_there_and_stay() -> None:
    async with api_cluster() as cluster:
        missing = await post(cluster, "/api/v1/namespaces/nope/pods", pod())
        assert (missing.status, missing.message) == (404, 'namespaces "nope" not found')
        await post(cluster, "/api/v1/namespaces", {"metadata": {"name": "going"}})
        body = {"metadata": {"name": "c", "finalizers": ["x.y/z"]}}
        assert (await post(cluster, "/api/v1/namespaces/going/configmaps", body)).status == 201
        assert (await cluster.http("DELETE", "/api/v1/namespaces/going")).status == 200
        late = await post(
            cluster, "/api/v1/namespaces/going/configmaps", {"metadata": {"name": "late"}}
        )
        assert (late.status, late.message) == (
            403,
            'configmaps "late" is forbidden: unable to create new content in namespace going'
            " because it is being terminated",
        )
        assert late.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"
        # What is there may still change and go.
        path = "/api/v1/namespaces/going/configmaps/c"
        assert (await patch(cluster, path, {"metadata": {"finalizers": None}})).status == 200
        assert (await cluster.http("DELETE", path)).status == 200
        for name in ("default", "kube-system", "kube-public"):
            kept = await cluster.http("DELETE", f"/api/v1/namespaces/{name}")
            assert (kept.status, kept.message) == (
                403,
                f'namespaces "{name}" is forbidden: this namespace may not be deleted',
            )


async def test_a_pod_runs_as_a_service_account() -> None:
    async with api_cluster() as cluster:
        refused = await post(cluster, f"{NS}/pods", pod())
        assert (refused.status, refused.message) == (
            403,
            'pods "p" is forbidden: error looking up service account default/default:'
            ' serviceaccount "default" not found',
        )
        await make_account(cluster, imagePullSecrets=[{"name": "registry"}])
        spec = (await post(cluster, f"{NS}/pods", pod())).json["spec"]
        assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        [volume] = spec["volumes"]
        assert volume["name"].startswith("kube-api-access-")
        sources = volume["projected"]["sources"]
        assert [next(iter(source)) for source in sources] == [
            "serviceAccountToken",
            "configMap",
            "downwardAPI",
        ]
        [mount] = spec["containers"][0]["volumeMounts"]
        assert mount == {
            "name": volume["name"],
            "readOnly": True,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        }
        off = await post(cluster, f"{NS}/pods", pod("off", automountServiceAccountToken=False))
        assert "volumes" not in off.json["spec"]
        own = pod("own")
        own["spec"]["containers"][0]["volumeMounts"] = [{**mount, "name": "v"}]
        own["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
        made = await post(cluster, f"{NS}/pods", own)
        assert [item["name"] for item in made.json["spec"]["volumes"]] == ["v"]


async def test_priority_comes_from_the_class() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        plain = (await post(cluster, f"{NS}/pods", pod())).json["spec"]
        assert (plain["priority"], plain["preemptionPolicy"]) == (0, "PreemptLowerPriority")
        named = await post(
            cluster, f"{NS}/pods", pod("named", priorityClassName="system-node-critical")
        )
        assert named.json["spec"]["priority"] == 2_000_001_000
        unknown = await post(cluster, f"{NS}/pods", pod("u", priorityClassName="gold"))
        assert (unknown.status, unknown.message) == (
            403,
            'pods "u" is forbidden: no PriorityClass with name gold was found',
        )
        own = await post(cluster, f"{NS}/pods", pod("own", priority=5))
        assert own.status == 403
        classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
        first = {"metadata": {"name": "d"}, "value": 7, "globalDefault": True}
        assert (await post(cluster, classes, first)).status == 201
        second = await post(cluster, classes, {**first, "metadata": {"name": "e"}})
        assert second.status == 403
        spec = (await post(cluster, f"{NS}/pods", pod("after"))).json["spec"]
        assert (spec["priority"], spec["priorityClassName"]) == (7, "d")


async def test_default_tolerations() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        all_nodes = [{"operator": "Exists"}]
        spec = (await post(cluster, f"{NS}/pods", pod("all", tolerations=all_nodes))).json["spec"]
        assert spec["tolerations"] == all_nodes
        spec = (await post(cluster, f"{NS}/pods", pod("none"))).json["spec"]
        assert [(item["key"], item["tolerationSeconds"]) for item in spec["tolerations"]] == [
            ("node.kubernetes.io/not-ready", 300),
            ("node.kubernetes.io/unreachable", 300),
        ]
        # They come back when somebody sends the pod without them.
        answer = await patch(cluster, f"{NS}/pods/none", {"spec": {"tolerations": None}})
        assert (answer.status, answer.json["spec"]["tolerations"]) == (200, spec["tolerations"])


async def test_a_pod_waits_for_the_account_of_its_new_namespace() -> None:
    async with api_cluster() as cluster:
        cluster.server.admission.lookups.wait_s = 5
        waiting = asyncio.create_task(post(cluster, f"{NS}/pods", pod()))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await make_account(cluster)
        assert (await waiting).status == 201
        named = pod("q", serviceAccountName="other")
        assert (await post(cluster, f"{NS}/pods", named)).status == 403


def with_env(name: str) -> dict[str, Any]:
    ref = {"secretKeyRef": {"name": name, "key": "k"}}
    return {"name": "c", "image": "x", "env": [{"name": "E", "valueFrom": ref}]}


async def test_accounts_may_say_which_secrets_their_pods_use() -> None:
    def secret(name: str) -> list[dict[str, Any]]:
        return [{"name": "v", "secret": {"secretName": name}}]

    env_from = {"name": "c", "image": "x", "envFrom": [{"secretRef": {"name": "b"}}]}
    async with api_cluster() as cluster:
        await make_account(
            cluster,
            metadata={
                "name": "default",
                "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"},
            },
            secrets=[{"name": "a"}],
            imagePullSecrets=[{"name": "p"}],
        )
        rest = "is not allowed because service account default does not reference that"
        for spec, why in (
            ({"volumes": secret("b")}, f'volume with secret.secretName="b" {rest} secret'),
            ({"containers": [with_env("b")]},
             f'container c with envVar E referencing secret.secretName="b" {rest} secret'),
            ({"initContainers": [env_from | {"name": "i"}]},
             f'init container i with envFrom referencing secret.secretName="b" {rest} secret'),
            ({"imagePullSecrets": [{"name": "x"}]},
             f'imagePullSecrets[0].name="x" {rest} imagePullSecret'),
        ):  # fmt: skip
            answer = await post(cluster, f"{NS}/pods", pod("p", **spec))
            assert (answer.status, answer.message) == (403, f'pods "p" is forbidden: {why}')
        fine = pod("p", volumes=secret("a"), containers=[with_env("a")])
        assert (await post(cluster, f"{NS}/pods", fine)).status == 201
        path = f"{NS}/pods/p/ephemeralcontainers"
        later = {"spec": {"ephemeralContainers": [with_env("b") | {"name": "e"}]}}
        answer = await patch(cluster, path, later)
        assert answer.message == (
            'pods "p" is forbidden: ephemeral container e with envVar E referencing '
            f'secret.secretName="b" {rest} secret'
        )


async def test_mirror_pods_use_no_secrets() -> None:
    token = {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
    async with api_cluster() as cluster:
        for spec, why in (
            ({"serviceAccountName": "default"}, "reference service accounts"),
            ({"containers": [with_env("s")]}, "reference secrets"),
            ({"volumes": [token]}, "use service account token volume projections"),
        ):
            mirror = pod("p", **{"nodeName": "n", **spec})
            mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "m"}
            answer = await post(cluster, f"{NS}/pods", mirror)
            assert answer.message == f'pods "p" is forbidden: a mirror pod may not {why}'


async def test_limit_ranges() -> None:
    limits = [
        {
            "type": "Container",
            "default": {"cpu": "500m"},
            "defaultRequest": {"cpu": "100m"},
            "max": {"cpu": "1"},
            "maxLimitRequestRatio": {"cpu": "5"},
        },
        {"type": "Pod", "max": {"memory": "1Gi"}},
    ]
    async with api_cluster() as cluster:
        await make_account(cluster)
        body = {"metadata": {"name": "l"}, "spec": {"limits": limits}}
        assert (await post(cluster, f"{NS}/limitranges", body)).status == 201

        async def try_resources(name: str, resources: dict[str, Any]) -> Answer:
            made = pod(name)
            resources.setdefault("limits", {}).setdefault("memory", "1Gi")
            made["spec"]["containers"][0]["resources"] = resources
            return await post(cluster, f"{NS}/pods", made)

        filled = (await try_resources("filled", {})).json
        assert filled["spec"]["containers"][0]["resources"] == {
            "limits": {"cpu": "500m", "memory": "1Gi"},
            "requests": {"cpu": "100m", "memory": "1Gi"},
        }
        assert filled["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
            "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
        )
        # A limit without a request is a request of the same amount, not the default one.
        same = (await try_resources("same", {"limits": {"cpu": "200m"}})).json
        assert same["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "200m"
        for name, resources, why in (
            ("over", {"limits": {"cpu": "2"}},
             "maximum cpu usage per Container is 1, but limit is 2"),
            ("ratio", {"limits": {"cpu": "1"}, "requests": {"cpu": "100m"}},
             "cpu max limit to request ratio per Container is 5, but provided ratio is 10.000000"),
            ("fat", {"limits": {"memory": "2Gi"}},
             "maximum memory usage per Pod is 1Gi, but limit is 2Gi"),
        ):  # fmt: skip
            answer = await try_resources(name, resources)
            assert (answer.status, answer.message) == (403, f'pods "{name}" is forbidden: {why}')


async def test_limit_ranges_one_by_one() -> None:
    """Each has its own words, of containers first; a pod's own resources are its total; claims have
    no ratio."""
    ratio = {"cpu": "2"}
    first = [{"type": "Container", "defaultRequest": {"memory": "1Mi"},
              "maxLimitRequestRatio": ratio}, {"type": "Pod", "max": {"cpu": "2"}}]  # fmt: skip
    second = [{"type": "Pod", "min": {"example.com/gpu": "1"}},
              {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"},
               "maxLimitRequestRatio": {"storage": "1"}}]  # fmt: skip
    async with api_cluster() as cluster:
        await make_account(cluster)
        for name, limits in (("a", first), ("b", second)):
            body = {"metadata": {"name": name}, "spec": {"limits": limits}}
            assert (await post(cluster, f"{NS}/limitranges", body)).status == 201
        made = pod("p")
        made["spec"]["initContainers"] = [{"name": "i", "image": "x"}]
        answer = await post(cluster, f"{NS}/pods", made)
        short = (
            "cpu max limit to request ratio per Container is 2, but no request is specified or "
            "request is 0"
        )
        assert answer.message == (
            f'pods "p" is forbidden: [{short}, maximum cpu usage per Pod is 2.  No limit is '
            "specified]"
        )
        made["spec"]["resources"] = {"limits": {"cpu": "1"}}
        answer = await post(cluster, f"{NS}/pods", made)
        assert answer.message == f'pods "p" is forbidden: {short}'
        claim = {"metadata": {"name": "c"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }}  # fmt: skip
        assert (await post(cluster, f"{NS}/persistentvolumeclaims", claim)).status == 201
        await cluster.http("DELETE", f"{NS}/limitranges/b")
        for item in (*made["spec"]["containers"], *made["spec"]["initContainers"]):
            item["resources"] = {"requests": {"cpu": "200m"}, "limits": {"cpu": "200m"}}
        answer = await post(cluster, f"{NS}/pods", made)
        assert answer.json["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
            "LimitRanger plugin set: memory request for container c; memory request for init "
            "container i"
        )


async def test_runtime_classes() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        unknown = await post(cluster, f"{NS}/pods", pod(runtimeClassName="kata"))
        assert (unknown.status, unknown.message) == (
            403,
            'pods "p" is forbidden: pod rejected: RuntimeClass "kata" not found',
        )
        body = {
            "metadata": {"name": "kata"},
            "handler": "kata",
            "overhead": {"podFixed": {"memory": "100Mi"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}},
        }
        assert (await post(cluster, "/apis/node.k8s.io/v1/runtimeclasses", body)).status == 201
        spec = (await post(cluster, f"{NS}/pods", pod(runtimeClassName="kata"))).json["spec"]
        assert (spec["overhead"], spec["nodeSelector"]) == ({"memory": "100Mi"}, {"vm": "yes"})
        same = pod("same", runtimeClassName="kata", overhead={"memory": "104857600"})
        assert (await post(cluster, f"{NS}/pods", same)).status == 201
        plain = {"metadata": {"name": "plain"}, "handler": "plain"}
        assert (await post(cluster, "/apis/node.k8s.io/v1/runtimeclasses", plain)).status == 201
        own = {"overhead": {"memory": "1Mi"}}
        bare = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        for spec, why in (
            ({"runtimeClassName": "kata", "nodeSelector": {"vm": "no"}},
             "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; "
             "pod.spec.nodeSelector[vm] = no"),
            ({"runtimeClassName": "kata", **own},
             "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
            (own, bare),
            ({"runtimeClassName": "plain", **own}, bare),
        ):  # fmt: skip
            answer = await post(cluster, f"{NS}/pods", pod("q", **spec))
            assert (answer.status, answer.message) == (403, f'pods "q" is forbidden: {why}')


def test_tolerations_that_another_covers_are_left_out() -> None:
    exact = {"key": "a", "operator": "Equal", "value": "1", "effect": "NoSchedule"}
    wide = {"key": "a", "operator": "Exists"}
    short = {"key": "b", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    long = short | {"tolerationSeconds": 9}
    assert runtimeclass.merged([exact], [wide]) == [wide]
    assert runtimeclass.merged([wide], [exact, short]) == [wide, short]
    assert runtimeclass.merged([short], [long]) == [long]
    assert runtimeclass.merged([long, exact], [short, exact]) == [long, exact]
    assert runtimeclass.merged([exact], [{"operator": "Exists"}]) == [{"operator": "Exists"}]


async def test_default_classes() -> None:
    async with api_cluster() as cluster:
        storage = "/apis/storage.k8s.io/v1/storageclasses"
        mark = {"storageclass.kubernetes.io/is-default-class": "true"}
        body = {"metadata": {"name": "fast", "annotations": mark}, "provisioner": "p"}
        assert (await post(cluster, storage, body)).status == 201

        def claim(name: str, **spec: Any) -> dict[str, Any]:
            resources = {"requests": {"storage": "1Gi"}}
            spec = {"accessModes": ["ReadWriteOnce"], "resources": resources, **spec}
            return {"metadata": {"name": name}, "spec": spec}

        claims = f"{NS}/persistentvolumeclaims"
        made = await post(cluster, claims, claim("a"))
        assert made.json["spec"]["storageClassName"] == "fast"
        none = await post(cluster, claims, claim("b", storageClassName=""))
        assert none.json["spec"]["storageClassName"] == ""

        networking = "/apis/networking.k8s.io/v1"
        mark = {"ingressclass.kubernetes.io/is-default-class": "true"}
        body = {"metadata": {"name": "web", "annotations": mark}, "spec": {"controller": "x.y/z"}}
        assert (await post(cluster, f"{networking}/ingressclasses", body)).status == 201
        backend = {"service": {"name": "s", "port": {"number": 80}}}
        body = {"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}}
        made = await post(cluster, f"{networking}/namespaces/default/ingresses", body)
        assert made.json["spec"]["ingressClassName"] == "web"
        # Of two defaults of one second, the first by name.
        other = {"metadata": {"name": "abc", "annotations": mark}, "spec": {"controller": "x.y/z"}}
        assert (await post(cluster, f"{networking}/ingressclasses", other)).status == 201
        body["metadata"] = {"name": "j"}
        made = await post(cluster, f"{networking}/namespaces/default/ingresses", body)
        assert made.json["spec"]["ingressClassName"] == "abc"


@pytest.mark.trust
async def test_external_addresses_are_denied() -> None:
    """CVE-2020-8554."""
    async with api_cluster() as cluster:
        spec = {"ports": [{"port": 80}], "externalIPs": ["8.8.8.8"]}
        body = {"metadata": {"name": "s"}, "spec": spec}
        refused = await post(cluster, f"{NS}/services", body)
        assert (refused.status, refused.message) == (
            403,
            'services "s" is forbidden: Use of external IPs is denied by admission control.',
        )


async def test_the_administrator_switches_a_plugin_off(tmp_path: Path) -> None:
    (tmp_path / "admission.yaml").write_text("disable: [DenyServiceExternalIPs]\n")
    async with api_cluster(folder=tmp_path) as cluster:
        spec = {"ports": [{"port": 80}], "externalIPs": ["8.8.8.8"]}
        made = await post(cluster, f"{NS}/services", {"metadata": {"name": "s"}, "spec": spec})
        assert made.status == 201, made.message


@pytest.mark.parametrize("text", ["disable: [Odd]", "[]", "disable: RBACEscalation",
                                  "disable: [RBACEscalation]", "enable: [X]"])  # fmt: skip
def test_switches_that_are_wrong_stop_the_start(text: str, tmp_path: Path) -> None:
    (tmp_path / "admission.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"admission\.yaml"):
        allowed(CHAIN, tmp_path)


# Nodes.


async def bind(cluster: Cluster, name: str, node: str) -> dict[str, Any]:
    made = await post(cluster, f"{NS}/pods", pod(name))
    assert made.status == 201, made.message
    bound = await post(cluster, f"{NS}/pods/{name}/binding", {"target": {"name": node}})
    assert bound.status == 201
    found: dict[str, Any] = made.json
    return found


async def test_a_node_registers_itself_and_no_other() -> None:
    async with api_cluster() as cluster:
        labels = {"kubernetes.io/hostname": "n1", "node.kubernetes.io/x": "y", "team": "a"}
        made = await post(cluster, "/api/v1/nodes", {"metadata": {"name": "n1", "labels": labels}},
                          NODE)  # fmt: skip
        assert made.status == 201, made.message
        taints = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
        assert made.json["spec"]["taints"] == taints
        other = await post(cluster, "/api/v1/nodes", {"metadata": {"name": "n2"}}, NODE)
        assert (other.status, other.message) == (
            403,
            'nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"',
        )
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        assert (await patch(cluster, "/api/v1/nodes/n1/status", ready, NODE)).status == 200
        await post(cluster, "/api/v1/nodes", {"metadata": {"name": "n2"}})
        assert (await patch(cluster, "/api/v1/nodes/n2/status", ready, NODE)).status == 403
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"}
        for change, why in (
            ({"spec": {"taints": None}}, 'node "n1" is not allowed to modify taints'),
            ({"metadata": {"labels": {"node-restriction.kubernetes.io/a": "b"}}},
             "is not allowed to modify labels: node-restriction.kubernetes.io/a"),
            ({"metadata": {"labels": {"node-role.kubernetes.io/master": ""}}},
             "is not allowed to modify labels: node-role.kubernetes.io/master"),
            ({"metadata": {"ownerReferences": [owner]}},
             'node "n1" is not allowed to modify ownerReferences'),
        ):  # fmt: skip
            answer = await patch(cluster, "/api/v1/nodes/n1", change, NODE)
            assert (answer.status, answer.message) == (403, f'nodes "n1" is forbidden: {why}')


async def test_a_node_touches_only_its_own_pods() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        mine, theirs = await bind(cluster, "mine", "n1"), await bind(cluster, "theirs", "n2")
        running = {"status": {"phase": "Running"}}
        assert (await patch(cluster, f"{NS}/pods/mine/status", running, NODE)).status == 200
        answer = await patch(cluster, f"{NS}/pods/theirs/status", running, NODE)
        assert (answer.status, answer.message) == (
            403,
            'pods "theirs" is forbidden: node "n1" can only update pod status for pods with'
            " spec.nodeName set to itself",
        )
        relabel = {"metadata": {"labels": {"app": "bank"}}}
        assert (await patch(cluster, f"{NS}/pods/mine/status", relabel, NODE)).status == 403
        assert (await post(cluster, f"{NS}/pods", pod("new", nodeName="n1"), NODE)).status == 403
        assert (await post(cluster, f"{NS}/pods/theirs/eviction", {}, NODE)).status == 403
        now = {"gracePeriodSeconds": 0}
        delete = [
            await cluster.http("DELETE", f"{NS}/pods/{name}", now, user=NODE)
            for name in ("theirs", "mine")
        ]
        assert [answer.status for answer in delete] == [403, 200]
        mine, theirs = await bind(cluster, "mine", "n1"), theirs
        for owner, status in ((mine, 201), (theirs, 403)):
            meta = owner["metadata"]
            ref = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
            token = await post(cluster, f"{NS}/serviceaccounts/default/token",
                               {"spec": {"boundObjectRef": ref}}, NODE)  # fmt: skip
            assert token.status == status, token.message
        unbound = await post(cluster, f"{NS}/serviceaccounts/default/token", {"spec": {}}, NODE)
        assert unbound.status == 403


async def test_a_node_holds_only_its_own_lease() -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces"
    async with api_cluster() as cluster:
        for namespace, name, status in (
            ("kube-node-lease", "n1", 201),
            ("kube-node-lease", "n2", 403),
            ("kube-system", "n1", 403),
        ):
            body = {"metadata": {"name": name}, "spec": {"holderIdentity": "n1"}}
            answer = await post(cluster, f"{leases}/{namespace}/leases", body, NODE)
            assert answer.status == status, answer.message


# Certificate requests.

CERTIFICATES = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


def signing_request(name: str, organization: str) -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, name),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
    ])  # fmt: skip
    made = x509.CertificateSigningRequestBuilder().subject_name(names).sign(key, hashes.SHA256())
    pem = base64.b64encode(made.public_bytes(Encoding.PEM)).decode()
    spec = {"request": pem, "signerName": CLIENT_SIGNER, "usages": ["client auth"],
            "username": "somebody-else", "groups": ["system:masters"]}  # fmt: skip
    return {"metadata": {"name": name}, "spec": spec}


@pytest.mark.trust
async def test_certificates_are_asked_for_in_ones_own_name_and_approved_by_right() -> None:
    bob = User("bob", ("system:authenticated",))
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    async with api_cluster() as cluster:
        resources = ["", "/approval", "/status"]
        rule = {
            "verbs": ["create", "get", "update", "patch"],
            "apiGroups": ["certificates.k8s.io"],
            "resources": [f"certificatesigningrequests{part}" for part in resources],
        }
        role = {"metadata": {"name": "csr"}, "rules": [rule]}
        await post(cluster, f"{rbac}/clusterroles", role)
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "csr"}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}
        body = {"metadata": {"name": "csr"}, "roleRef": ref, "subjects": [subject]}
        await post(cluster, f"{rbac}/clusterrolebindings", body)

        made = await post(cluster, CERTIFICATES, signing_request("mine", "team"), bob)
        assert made.status == 201, made.message
        assert made.json["spec"]["username"] == "bob"
        assert made.json["spec"]["groups"] == ["system:authenticated"]
        for user in (bob, ADMIN):
            refused = await post(cluster, CERTIFICATES, signing_request("m", MASTERS), user)
            assert (refused.status, refused.message) == (
                403,
                'certificatesigningrequests.certificates.k8s.io "m" is forbidden: use of'
                " kubernetes.io/kube-apiserver-client signer with system:masters group is not"
                " allowed",
            )
        approved = {"type": "Approved", "status": "True", "reason": "r", "message": "m"}
        change = {"status": {"conditions": [approved]}}
        path = f"{CERTIFICATES}/mine/approval"
        answer = await patch(cluster, path, change, bob)
        assert (answer.status, answer.message) == (
            403,
            'certificatesigningrequests.certificates.k8s.io "mine" is forbidden: user not'
            f' permitted to approve requests with signerName "{CLIENT_SIGNER}"',
        )
        some = (server_files() / "ca.crt").read_bytes()
        forged = {"status": {"certificate": base64.b64encode(some).decode()}}
        answer = await patch(cluster, f"{CERTIFICATES}/mine/status", forged, bob)
        assert answer.status == 403
        assert "not permitted to sign" in answer.message
        assert (await patch(cluster, path, change)).status == 200


async def test_a_pod_cannot_grow_beyond_its_node() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        node = {"metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux"}}}
        made = (await post(cluster, "/api/v1/nodes", node)).json
        made["status"] = {"allocatable": {"cpu": "2", "memory": "1Gi"}}
        await cluster.http("PUT", "/api/v1/nodes/n1/status", made)
        body = pod(nodeName="n1")
        body["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
        assert (await post(cluster, f"{NS}/pods", body)).status == 201

        async def resize(**requests: str) -> Answer:
            container = {"name": "c", "resources": {"requests": requests}}
            patch = {"spec": {"containers": [container]}}
            return await cluster.http(
                "PATCH", f"{NS}/pods/p/resize", patch,
                content_type="application/strategic-merge-patch+json",
            )  # fmt: skip

        refused = await resize(cpu="3")
        assert refused.status == 403
        assert refused.message == (
            'pods "p" is forbidden: Node didn\'t have enough allocatable resources: '
            "cpu, requested: 3000, allocatable: 2000"
        )
        assert (await resize(cpu="2")).status == 200
        label = {"metadata": {"labels": {"kubernetes.io/os": "plan9"}}}
        assert (await patch(cluster, "/api/v1/nodes/n1", label)).status == 200
        assert "only supported on linux nodes" in (await resize(cpu="1")).message
