"""Admission as the administrator chooses it: plugins that are off by default (each as upstream's
own unit tests have it), and an AdmissionConfiguration."""

from __future__ import annotations

import base64
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from sampan.server.admission import CHAIN, configuration
from sampan.server.admission.optional import OPTIONAL
from sampan.server.admission.switches import allowed
from sampan.server.exchange import User
from tests.kit.clock import FakeClock
from tests.kit.cluster import Answer, Cluster, api_cluster
from tests.kit.hooks import Call, Reply, hook_server, write_kubeconfig

CORE = "/api/v1/namespaces/default"
PODS = f"{CORE}/pods"
MERGE = "application/merge-patch+json"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def choose(folder: Path, *names: str, **plugins: Any) -> None:
    """Enable plugins; `plugins` are their configurations."""
    (folder / "admission.yaml").write_text(yaml.safe_dump({"enable": list(names)}))
    configure(folder, **plugins)


def configure(folder: Path, **plugins: Any) -> None:
    items = [{"name": name, "configuration": value} for name, value in plugins.items()]
    raw = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": items,
    }
    (folder / configuration.FILE).write_text(yaml.safe_dump(raw))


@asynccontextmanager
async def chosen(folder: Path, *names: str, **plugins: Any) -> AsyncIterator[Cluster]:
    choose(folder, *names, **plugins)
    async with api_cluster(folder=folder) as cluster:
        await make(cluster, f"{CORE}/serviceaccounts", "default")
        yield cluster


async def make(cluster: Cluster, path: str, name: str, **fields: Any) -> Answer:
    meta = {"name": name, **fields.pop("metadata", {})}
    return await cluster.http("POST", path, {"metadata": meta, **fields})


def spec(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "x:1"}], **fields}


async def annotate(cluster: Cluster, **annotations: str) -> None:
    names = {f"scheduler.alpha.kubernetes.io/{key}": text for key, text in annotations.items()}
    answer = await cluster.http(
        "PATCH", CORE, {"metadata": {"annotations": names}}, content_type=MERGE
    )
    assert answer.status == 200, answer.message


def test_every_plugin_has_its_place(tmp_path: Path) -> None:
    """In upstream's order, and none is imported where none is asked for."""
    for name in [name for name in sys.modules if ".admission.optional." in name]:
        del sys.modules[name]
    assert allowed(CHAIN, tmp_path) == CHAIN
    assert not [name for name in sys.modules if ".admission.optional." in name]
    configured = {"EventRateLimit", "ImagePolicyWebhook"}
    (tmp_path / "admission.yaml").write_text("disable: [AlwaysAdmit]")
    assert allowed(CHAIN, tmp_path) == CHAIN
    choose(tmp_path, "NodeRestriction", *(OPTIONAL.keys() - configured))
    names = [plugin.name for plugin in allowed(CHAIN, tmp_path)]
    assert len(names) == len(CHAIN) + len(OPTIONAL) - len(configured)
    assert names[:4] == [
        "NamespaceAutoProvision", "NamespaceLifecycle", "NamespaceExists",
        "LimitPodHardAntiAffinityTopology",
    ]  # fmt: skip
    at = names.index("DefaultTolerationSeconds")
    assert names[at + 1 : at + 4] == [
        "PodTolerationRestriction", "ExtendedResourceToleration", "DefaultStorageClass",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("switches", "plugins", "why"),
    [
        ("enable: [Odd]", {}, 'enable-admission-plugins plugin "Odd" is unknown'),
        ("enable: [[]]", {}, "is unknown"),
        ("enable: [AlwaysDeny]", {}, "is unknown"),
        ("enable: [Priority]\ndisable: [Priority]", {}, "overlapped"),
        ("enable: [EventRateLimit]", {}, "limits: Invalid value: must not be empty"),
        ("enable: [ImagePolicyWebhook]", {}, r"imagePolicy\.kubeConfigFile: Required value"),
        ("enable: [PodNodeSelector]", {"PodNodeSelector": {"odd": 1}}, "unknown field odd"),
        (
            "enable: [PodNodeSelector]",
            {"PodNodeSelector": {"podNodeSelectorPluginConfig": {"a": "b"}}},
            "invalid selector: b",
        ),
        (
            "enable: [PodTolerationRestriction]",
            {"PodTolerationRestriction": {"default": []}},
            "apiVersion and kind must be",
        ),
    ],
)
def test_what_is_wrong_stops_the_start(
    switches: str, plugins: dict[str, Any], why: str, tmp_path: Path
) -> None:
    (tmp_path / "admission.yaml").write_text(switches)
    configure(tmp_path, **plugins)
    with pytest.raises(ValueError, match=why):
        allowed(CHAIN, tmp_path)


async def test_images_are_always_pulled(tmp_path: Path) -> None:
    async with chosen(tmp_path, "AlwaysPullImages") as cluster:
        containers = [{"name": "c", "image": "x:1", "imagePullPolicy": "Never"}]
        volumes = [{"name": "v", "image": {"reference": "y:1", "pullPolicy": "IfNotPresent"}}]
        made = (
            await make(cluster, PODS, "p", spec=spec(containers=containers, volumes=volumes))
        ).json
        assert made["spec"]["containers"][0]["imagePullPolicy"] == "Always"
        assert made["spec"]["volumes"][0]["image"]["pullPolicy"] == "Always"


async def test_pods_keep_others_from_their_own_node_only(tmp_path: Path) -> None:
    async with chosen(tmp_path, "LimitPodHardAntiAffinityTopology") as cluster:
        for key, status in (("kubernetes.io/hostname", 201), ("topology.kubernetes.io/zone", 403)):
            term = {"labelSelector": {}, "topologyKey": key}
            anti = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
            body = spec(affinity={"podAntiAffinity": anti})
            answer = await make(cluster, PODS, f"p{status}", spec=body)
            assert answer.status == status
        assert answer.message == (
            'pods "p403" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has'
            " TopologyKey topology.kubernetes.io/zone but only key kubernetes.io/hostname is"
            " allowed"
        )


async def test_namespaces_are_made_when_something_is_created_in_them(tmp_path: Path) -> None:
    async with chosen(tmp_path, "NamespaceAutoProvision", "NamespaceExists") as cluster:
        maps = "/api/v1/namespaces/fresh/configmaps"
        assert (await make(cluster, f"{maps}?dryRun=All", "m")).status == 404
        assert (await cluster.http("DELETE", f"{maps}/m")).status == 404
        assert (await make(cluster, maps, "m")).status == 201
        made = (await cluster.http("GET", "/api/v1/namespaces/fresh")).json
        assert made["status"]["phase"] == "Active"
        odd = await make(cluster, "/api/v1/namespaces/No_Name/configmaps", "m")
        assert (odd.status, odd.json["reason"]) == (403, "Forbidden")


async def test_a_namespace_chooses_its_pods_nodes(tmp_path: Path) -> None:
    lines = {"clusterDefaultNodeSelector": "pool=usual", "default": "pool=red,disk=fast"}
    async with chosen(
        tmp_path, "PodNodeSelector", PodNodeSelector={"podNodeSelectorPluginConfig": lines}
    ) as cluster:
        whitelist = "pod node label selector labels conflict with its namespace whitelist"
        assert whitelist in (await make(cluster, PODS, "a", spec=spec())).message
        await annotate(cluster, **{"node-selector": "pool=red"})
        made = await make(cluster, PODS, "b", spec=spec(nodeSelector={"disk": "fast"}))
        assert made.json["spec"]["nodeSelector"] == {"pool": "red", "disk": "fast"}
        other = await make(cluster, PODS, "c", spec=spec(nodeSelector={"pool": "blue"}))
        assert other.message == (
            'pods "c" is forbidden: pod node label selector conflicts with its namespace node label'
            " selector"
        )
        odd = await make(cluster, PODS, "d", spec=spec(nodeSelector={"x": "y"}))
        assert whitelist in odd.message
        await annotate(cluster, **{"node-selector": "!!"})
        assert (await make(cluster, PODS, "e", spec=spec())).status == 403


async def test_a_namespace_says_what_its_pods_tolerate(tmp_path: Path) -> None:
    def list_of(*keys: str) -> list[dict[str, Any]]:
        return [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]

    usual = {
        "apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1",
        "kind": "Configuration",
        "default": list_of("usual"),
    }
    async with chosen(
        tmp_path, "PodTolerationRestriction", PodTolerationRestriction=usual
    ) as cluster:

        async def keys(name: str, **fields: Any) -> list[str]:
            made = await make(cluster, PODS, name, spec=spec(**fields))
            assert made.status == 201, made.message
            return [item["key"] for item in made.json["spec"]["tolerations"]]

        absent = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        assert await keys("a") == ["usual", *absent]
        await annotate(cluster, defaultTolerations=orjson.dumps(list_of("own")).decode())
        limits = {"limits": {"memory": "1Mi"}}
        container = {"name": "c", "image": "x", "resources": limits}
        assert await keys("b", containers=[container], tolerations=list_of("own")) == [
            "own", *absent, "node.kubernetes.io/memory-pressure",
        ]  # fmt: skip
        few = [*list_of("own"), *({"key": key, "operator": "Exists"} for key in absent)]
        await annotate(cluster, tolerationsWhitelist=orjson.dumps(few).decode())
        assert await keys("c") == ["own", *absent]
        odd = await make(cluster, PODS, "d", spec=spec(tolerations=list_of("other")))
        assert (odd.status, odd.message) == (
            403,
            'pods "d" is forbidden: pod tolerations (possibly merged with namespace default'
            " tolerations) conflict with its namespace whitelist",
        )
        limited = [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}]
        await annotate(cluster, tolerationsWhitelist=orjson.dumps([*few, *limited]).decode())
        own = await make(cluster, PODS, "f", spec=spec(tolerations=limited))
        assert own.status == 201, own.message
        forever = [{"operator": "Exists", "effect": "NoExecute"}]
        assert (await make(cluster, PODS, "g", spec=spec(tolerations=forever))).status == 403
        for text in ("{", "[1]", '[{"key": 1}]', "[[]]"):
            await annotate(cluster, tolerationsWhitelist=text)
            assert (await make(cluster, PODS, "e", spec=spec())).status == 403


async def test_who_asks_for_an_extended_resource_tolerates_its_taint(tmp_path: Path) -> None:
    async with chosen(tmp_path, "ExtendedResourceToleration") as cluster:
        requests = {"example.com/gpu": "1", "cpu": "1"}
        resources = {"requests": requests, "limits": {"example.com/gpu": "1"}}
        body = spec(containers=[{"name": "c", "image": "x", "resources": resources}])
        made = (await make(cluster, PODS, "p", spec=body)).json
        assert {"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in made[
            "spec"
        ]["tolerations"]
        assert "cpu" not in str(made["spec"]["tolerations"])


async def test_owners_are_set_by_who_may_delete(tmp_path: Path) -> None:
    async with chosen(tmp_path, "OwnerReferencesPermissionEnforcement") as cluster:
        writer = User("writer", ("system:authenticated",))
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "patch"]}]
        await make(cluster, f"{RBAC}/clusterroles", "write", rules=rules)
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "write"}
        subjects = [{"kind": "User", "name": "writer", "apiGroup": ref["apiGroup"]}]
        await make(cluster, f"{RBAC}/clusterrolebindings", "w", roleRef=ref, subjects=subjects)
        owner = {"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": "1"}

        async def create(name: str, **fields: Any) -> Answer:
            body = {"metadata": {"name": name, "ownerReferences": [{**owner, **fields}]}}
            return await cluster.http("POST", f"{CORE}/configmaps", body, user=writer)

        assert (await create("a")).status == 201
        body: Any = {"metadata": {"ownerReferences": None}}
        late = await cluster.http(
            "PATCH", f"{CORE}/configmaps/a", body, user=writer, content_type=MERGE
        )
        assert (late.status, late.message) == (
            403,
            'configmaps "a" is forbidden: cannot set an ownerRef on a resource you can\'t delete:'
            " , <nil>",
        )
        body = {"data": {"k": "v"}}
        kept = await cluster.http(
            "PATCH", f"{CORE}/configmaps/a", body, user=writer, content_type=MERGE
        )
        assert kept.status == 200
        assert (await create("b", blockOwnerDeletion=True)).message == (
            'configmaps "b" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers'
            " to a resource you can't set finalizers on: , <nil>"
        )
        odd = await create("c", blockOwnerDeletion=True, kind="Odd", apiVersion="x.y/v1")
        assert odd.message.endswith(
            "because cannot find RESTMapping for APIVersion x.y/v1 Kind Odd: no matches for kind"
            ' "Odd" in version "x.y/v1"'
        )


async def test_events_are_limited(tmp_path: Path) -> None:
    limits = [
        {"type": "Namespace", "qps": 1, "burst": 2, "cacheSize": 1},
        {"type": "User", "qps": 50, "burst": 100},
    ]
    raw = {
        "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
        "kind": "Configuration",
        "limits": limits,
    }
    choose(tmp_path, "EventRateLimit", EventRateLimit=raw)
    clock = FakeClock()
    async with api_cluster(folder=tmp_path, clock=clock) as cluster:

        async def say(name: str) -> Answer:
            about = {"kind": "Pod", "name": "p", "namespace": "default"}
            return await make(cluster, f"{CORE}/events", name, involvedObject=about)

        assert [(await say(name)).status for name in "abc"] == [201, 201, 429]
        refused = await say("d")
        assert (refused.json["reason"], refused.message) == (
            "TooManyRequests",
            "Too many requests: limit reached on type Namespace for key default",
        )
        await clock.advance(1)
        assert [(await say(name)).status for name in "ef"] == [201, 429]


async def test_a_webhook_judges_images(tmp_path: Path) -> None:
    async def judge(call: Call) -> Reply:
        review = call.json
        bad = [item for item in review["spec"]["containers"] if "bad" in item["image"]]
        status: dict[str, Any] = {"allowed": not bad, "auditAnnotations": {"seen": "yes"}}
        if bad:
            status["reason"] = "not this one"
        return Reply({**review, "status": status})

    async with hook_server(judge) as hook:
        write_kubeconfig(tmp_path / "images.kubeconfig", hook.url("/judge"), hook.bundle)
        policy = {"kubeConfigFile": "images.kubeconfig", "defaultAllow": False, "denyTTL": -1}
        async with chosen(
            tmp_path, "ImagePolicyWebhook", ImagePolicyWebhook={"imagePolicy": policy}
        ) as cluster:
            notes = {"a.image-policy.k8s.io/ticket": "7", "other": "x"}
            for name in "ab":
                made = await make(cluster, PODS, name, spec=spec(), metadata={"annotations": notes})
                assert made.status == 201, made.message
            assert [call.json["spec"] for call in hook.calls] == [
                {
                    "containers": [{"image": "x:1"}],
                    "namespace": "default",
                    "annotations": {"a.image-policy.k8s.io/ticket": "7"},
                }
            ]
            bad = [{"name": "c", "image": "bad:1"}]
            refused = await make(cluster, PODS, "c", spec=spec(containers=bad))
            assert refused.message == (
                'pods "c" is forbidden: image policy webhook backend denied one or more images:'
                " not this one"
            )


@pytest.mark.parametrize("lenient", [False, True])
async def test_a_judge_of_images_that_answers_nonsense(lenient: bool, tmp_path: Path) -> None:
    """It never lets a pod in by a word that is no yes, unless failures are to let it in."""
    answers: list[Any] = [b"", b"{", b"[]", {}, {"status": []}]
    no = {"status": {"allowed": "yes", "auditAnnotations": [], "reason": {}}}

    async def nonsense(call: Call) -> Reply:
        return Reply(answers[0])

    async with hook_server(nonsense) as hook:
        write_kubeconfig(tmp_path / "images.kubeconfig", hook.url("/"), hook.bundle)
        policy = {"kubeConfigFile": "images.kubeconfig", "defaultAllow": lenient}
        async with chosen(
            tmp_path, "ImagePolicyWebhook", ImagePolicyWebhook={"imagePolicy": policy}
        ) as cluster:
            while answers:
                made = await make(cluster, PODS, f"p{len(answers)}", spec=spec())
                assert made.status == (201 if lenient else 403), made.message
                answers.pop(0)
            answers.append(no)
            assert (await make(cluster, PODS, "q", spec=spec())).status == 403


async def test_webhooks_are_shown_their_users(tmp_path: Path) -> None:
    """Each kind of webhook by its own file, users by whom they are for."""

    async def allow(call: Call) -> Reply:
        request = call.json["request"]
        response = {"uid": request["uid"], "allowed": True}
        return Reply({**call.json, "response": response})

    async with hook_server(allow) as hook:
        users: dict[str, Any] = {
            f"localhost:{hook.port}": {"token": "exact"}, "*": {"token": "anybody"},
        }  # fmt: skip
        write_kubeconfig(tmp_path / "v.kubeconfig", "https://x", hook.bundle, **users)
        basic = {"w": {"username": "me", "password": "secret"}}
        write_kubeconfig(tmp_path / "m.kubeconfig", "https://x", hook.bundle, **basic)
        configure(
            tmp_path,
            **{
                f"{kind}AdmissionWebhook": {
                    "apiVersion": "apiserver.config.k8s.io/v1",
                    "kind": "WebhookAdmissionConfiguration",
                    "kubeConfigFile": file,
                }
                for kind, file in (("Validating", "v.kubeconfig"), ("Mutating", "m.kubeconfig"))
            },
        )
        async with api_cluster(folder=tmp_path) as cluster:
            for kind in ("validating", "mutating"):
                webhook = {
                    "name": f"{kind}.example.com",
                    "clientConfig": {"url": hook.url("/"), "caBundle": hook.bundle},
                    "rules": [
                        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                         "resources": ["configmaps"]}
                    ],
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                }  # fmt: skip
                path = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations"
                assert (await make(cluster, path, kind, webhooks=[webhook])).status == 201
            assert (await make(cluster, f"{CORE}/configmaps", "m")).status == 201
            basic_words = base64.b64encode(b"me:secret").decode()
            assert [call.headers.get("authorization") for call in hook.calls] == [
                f"Basic {basic_words}", "Bearer exact",
            ]  # fmt: skip


async def test_quotas_and_pod_security_by_the_same_file(tmp_path: Path) -> None:
    limited = {"resource": "secrets", "matchContains": ["secrets"]}
    configure(
        tmp_path,
        ResourceQuota={
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "ResourceQuotaConfiguration",
            "limitedResources": [limited],
        },
        PodSecurity={
            "apiVersion": "pod-security.admission.config.k8s.io/v1",
            "kind": "PodSecurityConfiguration",
            "defaults": {"enforce": "baseline"},
        },
    )
    async with api_cluster(folder=tmp_path) as cluster:
        await make(cluster, f"{CORE}/serviceaccounts", "default")
        refused = await make(cluster, f"{CORE}/secrets", "s")
        assert "insufficient quota to consume: count/secrets,secrets" in refused.message
        hosted = await make(cluster, PODS, "p", spec=spec(hostNetwork=True))
        assert 'violates PodSecurity "baseline:latest"' in hosted.message
