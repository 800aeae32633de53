"""How every built-in kind is created, updated and deleted, as upstream's strategies have it.

One table for all kinds: what a client may leave out, what counts as a change, what a write of the
status leaves alone, and what deletion does without options.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from sampan.api.descriptor import Descriptor
from sampan.api.resources import builtin
from tests.kit.clock import FakeClock
from tests.kit.cluster import Answer, Cluster, api_cluster
from tests.kit.samples import sample

# Flags by kind. g: counts generations, from 1; l, a: labels or annotations count too. c: PUT
# creates what is not there. v: PUT must name the version it replaces. o: dependents are orphaned
# without being asked to. d: deletion answers with the object. k: status may be given at creation.
FLAGS = {
    "ConfigMap": "", "Endpoints": "c", "Event": "c", "LimitRange": "c", "Namespace": "d",
    "Node": "k", "PersistentVolume": "d", "PersistentVolumeClaim": "d", "Pod": "gd",
    "PodTemplate": "gd", "ReplicationController": "go", "ResourceQuota": "d", "Secret": "",
    "Service": "cd", "ServiceAccount": "d",
    "MutatingAdmissionPolicy": "gv", "MutatingAdmissionPolicyBinding": "gv",
    "MutatingWebhookConfiguration": "gv", "ValidatingAdmissionPolicy": "gv",
    "ValidatingAdmissionPolicyBinding": "gv", "ValidatingWebhookConfiguration": "gv",
    # Definitions go when their objects have: until then they are shown.
    "CustomResourceDefinition": "gvd", "APIService": "v",
    "ControllerRevision": "", "DaemonSet": "g", "Deployment": "ga", "ReplicaSet": "g",
    "StatefulSet": "g", "HorizontalPodAutoscaler": "", "CronJob": "g", "Job": "go",
    "CertificateSigningRequest": "", "ClusterTrustBundle": "v", "Lease": "cv",
    "EndpointSlice": "gl", "FlowSchema": "g",
    "PriorityLevelConfiguration": "g", "IPAddress": "", "Ingress": "g", "IngressClass": "g",
    "NetworkPolicy": "g", "ServiceCIDR": "", "RuntimeClass": "cv", "PodDisruptionBudget": "gv",
    "ClusterRole": "c", "ClusterRoleBinding": "c", "Role": "c", "RoleBinding": "c",
    "DeviceClass": "g", "ResourceClaim": "", "ResourceClaimTemplate": "", "ResourceSlice": "g",
    "PriorityClass": "g", "CSIDriver": "gv", "CSINode": "v", "CSIStorageCapacity": "v",
    "StorageClass": "", "StorageVersionMigration": "v", "VolumeAttachment": "v",
    "VolumeAttributesClass": "d",
}  # fmt: skip

ALL = "annotations finalizers labels ownerReferences"
# Metadata that a write of the status leaves as it was, where it is not none.
KEPT = {
    "APIService": ALL, "CustomResourceDefinition": ALL, "Deployment": "labels",
    "FlowSchema": ALL, "Pod": "ownerReferences", "PriorityLevelConfiguration": ALL,
    "ResourceClaim": ALL, "ServiceCIDR": ALL, "ValidatingAdmissionPolicy": ALL,
    "StorageVersionMigration": ALL, "VolumeAttachment": ALL,
}  # fmt: skip

OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"}
CHANGED: dict[str, Any] = {
    "annotations": {"a/b": "c"}, "finalizers": ["a/b"], "labels": {"a": "b"},
    "ownerReferences": [OWNER],
}  # fmt: skip
MERGE = "application/merge-patch+json"
GIVEN = [{"type": "Given", "status": "True"}]


def stored() -> list[Descriptor]:
    """Kinds whose objects can be read again."""
    return [item for item in builtin() if {"create", "get"} <= {*item.verbs}]


async def make_account(cluster: Cluster) -> None:
    """Pods need one, and no controller runs that makes it."""
    account = {"metadata": {"name": "default"}}
    await cluster.http("POST", "/api/v1/namespaces/default/serviceaccounts", account)


class Probe:
    """One kind, asked what it does."""

    def __init__(self, cluster: Cluster, resource: Descriptor) -> None:
        self.cluster, self.resource = cluster, resource
        self.body = sample(resource, f"x-{resource.version}{resource.group.partition('.')[0]}")
        self.name = self.body["metadata"]["name"]
        self.namespace = "default" if resource.namespaced else ""

    async def ask(self, method: str, body: Any = None, name: str = "", part: str = "") -> Answer:
        path = self.resource.path(self.namespace, name, part)
        kind = {"content_type": MERGE} if method == "PATCH" else {}
        return await self.cluster.http(method, path, body, **kind)

    async def stored(self) -> Any:
        return (await self.ask("GET", name=self.name)).json

    async def change(self, **metadata: Any) -> bool:
        """Does the generation grow with a change of metadata?"""
        before = await self.stored()
        body = {**before, "metadata": {**before["metadata"], **metadata}}
        # The server itself says whether an APIService is available, at any time.
        del body["metadata"]["resourceVersion"]
        answer = await self.ask("PATCH", body, self.name)
        assert answer.status == 200, (self.resource.kind, answer.body)
        after = answer.json["metadata"].get("generation")
        return bool(after != before["metadata"].get("generation"))

    async def kept_by_status(self) -> str:
        before = await self.stored()
        metadata = {**before["metadata"], **CHANGED}
        answer = await self.ask("PUT", {**before, "metadata": metadata}, self.name, "status")
        assert answer.status == 200, (self.resource.kind, answer.body)
        after = answer.json["metadata"]
        assert after.get("generation") == before["metadata"].get("generation")
        for part in ("spec", "webhooks", "data"):
            assert answer.json.get(part) == before.get(part)
        # A namespace has a label of its own besides.
        after.get("labels", {}).pop("kubernetes.io/metadata.name", None)
        kept = " ".join(name for name in CHANGED if after.get(name) != CHANGED[name])
        restored = {**answer.json["metadata"], "finalizers": []}
        await self.ask("PUT", {**answer.json, "metadata": restored}, self.name)
        return kept

    async def flags(self) -> str:
        resource, body, found = self.resource, deepcopy(self.body), ""
        body["metadata"]["generation"] = 7
        if resource.has_status:
            body["status"] = {"conditions": GIVEN}
        made = await self.ask("POST", body)
        assert made.status == 201, (resource.kind, made.body)
        generation = made.json["metadata"].get("generation")
        assert generation in (None, 1), resource.kind
        found += "g" if generation else ""
        found += "l" if await self.change(labels={"x": "y"}) else ""
        found += "a" if await self.change(annotations={"x": "y"}) else ""
        other = deepcopy(self.body)
        other["metadata"]["name"] = missing = f"missing-{self.name}"
        absent = await self.ask("PUT", other, missing)
        assert absent.status in (201, 404), (resource.kind, absent.body)
        found += "c" if absent.status == 201 else ""
        current = await self.stored()
        del current["metadata"]["resourceVersion"]
        answer = await self.ask("PUT", current, self.name)
        assert answer.status in (200, 422), (resource.kind, answer.body)
        if answer.status == 422:
            assert answer.message == (
                f'{resource.plural}{"." * bool(resource.group)}{resource.group} "{self.name}" is '
                "invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an "
                "update"
            )
            found += "v"
        given = GIVEN[0]["type"] in [
            item.get("type") for item in (made.json.get("status") or {}).get("conditions") or ()
        ]
        return found + ("k" if given else "")

    async def deletion(self) -> str:
        gone = await self.ask("DELETE", name=self.name)
        assert gone.status in (200, 202), (self.resource.kind, gone.body)
        if gone.json["kind"] == "Status":
            return ""
        orphans = "orphan" in gone.json["metadata"].get("finalizers", ())
        if orphans and self.resource.kind in ("Job", "ReplicationController"):
            return "o"
        return "d"


async def test_every_kind_is_written_as_upstream_has_it() -> None:
    flags: dict[str, set[str]] = {}
    kept: dict[str, str] = {}
    async with api_cluster() as cluster:
        await make_account(cluster)
        for resource in stored():
            probe = Probe(cluster, resource)
            found = await probe.flags()
            if resource.has_status:
                names = await probe.kept_by_status()
                if names:
                    kept[resource.kind] = names
            flags.setdefault(resource.kind, set()).add(
                "".join(sorted(found + await probe.deletion()))
            )
    expected = {kind: {"".join(sorted(text))} for kind, text in FLAGS.items()}
    assert flags == expected
    assert kept == KEPT


# What is not in the table takes a DNS subdomain. Names that a rule refuses, by rule.
RULES = {
    "label": ("a.b", "A", "-a"),
    "path": ("a/b", "a%b", ".", ".."),
    "subdomain": ("A", "a_b", ".a", "a..b", "a" * 254),
}
NAMED = {
    "Namespace": "label", "Service": "label", "StatefulSet": "label", "APIService": "path",
    "CertificateSigningRequest": "path", "ClusterRole": "path", "ClusterRoleBinding": "path",
    "Event": "path", "IPAddress": "path", "PodDisruptionBudget": "path", "Role": "path",
    "RoleBinding": "path",
}  # fmt: skip
STRICTER = {"events.k8s.io": {"Event": "subdomain"}}
"""Where another version of a kind has a rule of its own."""


async def test_every_kind_checks_its_name() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        for resource in stored():
            rule = NAMED.get(resource.kind, "subdomain")
            rule = STRICTER.get(resource.group, {}).get(resource.kind, rule)
            probe = Probe(cluster, resource)
            for name in RULES[rule]:
                body = {**probe.body, "metadata": {"name": name}}
                answer = await probe.ask("POST", body)
                assert answer.status == 422, (resource.kind, name, answer.body)
                assert "metadata.name: Invalid value: " in answer.message, resource.kind
            if rule == "path" and resource.kind not in ("APIService", "IPAddress"):
                body = {**probe.body, "metadata": {"name": "Any_Name:1"}}
                assert (await probe.ask("POST", body)).status == 201, resource.kind


async def test_a_volume_says_since_when_it_is_in_its_phase() -> None:
    clock = FakeClock(1_700_000_000.0)
    path = "/api/v1/persistentvolumes"
    async with api_cluster(clock=clock) as cluster:
        volume = next(item for item in stored() if item.kind == "PersistentVolume")
        made = (await cluster.http("POST", path, sample(volume, "v"))).json
        assert made["status"]["lastPhaseTransitionTime"] == "2023-11-14T22:13:20Z"
        await clock.advance(60)
        same = await cluster.http("PUT", f"{path}/v/status", made)
        assert same.json["status"] == made["status"]
        made["status"]["phase"] = "Available"
        del made["metadata"]["resourceVersion"]
        moved = await cluster.http("PUT", f"{path}/v/status", made)
        assert moved.json["status"]["lastPhaseTransitionTime"] == "2023-11-14T22:14:20Z"


async def test_what_only_one_kind_does() -> None:
    async with api_cluster() as cluster:
        ranges = "/api/v1/namespaces/default/limitranges"
        nameless = await cluster.http("POST", ranges, {"spec": {"limits": []}})
        assert (nameless.status, len(nameless.json["metadata"]["name"])) == (201, 36)
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        secrets = [{"name": "a", "namespace": "other"}]
        account = {"metadata": {"name": "a"}, "secrets": secrets}
        assert (await cluster.http("POST", accounts, account)).json["secrets"] == [{"name": "a"}]
        events = "/api/v1/namespaces/default/events"
        event = next(item for item in stored() if item.kind == "Event" and not item.group)
        await cluster.http("POST", events, sample(event, "e"))
        gone = await cluster.http("DELETE", f"{events}/e?propagationPolicy=Foreground")
        assert gone.json["status"] == "Success"
