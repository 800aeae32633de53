"""Objects come and go as upstream has it: create, get, update, generateName, dry run."""

from __future__ import annotations

from typing import Any

from tests.kit.cluster import Cluster, api_cluster
from tests.kit.samples import sample

MERGE = "application/merge-patch+json"
CM = "/api/v1/namespaces/default/configmaps"


def config_map(name: str = "a", **changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"k": "v"},
        **changes,
    }


async def test_create_sets_what_the_server_owns() -> None:
    async with api_cluster() as cluster:
        body = config_map()
        body["metadata"] |= {"uid": "mine", "creationTimestamp": "1970-01-01T00:00:00Z"}
        body["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:00Z"
        made = await cluster.http("POST", CM, body)
        assert made.status == 201
        metadata = made.json["metadata"]
        assert metadata["uid"] != "mine"
        assert metadata["creationTimestamp"] > "2020"
        assert metadata["namespace"] == "default"
        assert "deletionTimestamp" not in metadata
        assert metadata["resourceVersion"] == str(cluster.store.revision)
        got = await cluster.http("GET", f"{CM}/a")
        assert (got.status, got.body) == (200, made.body)


async def test_what_is_there_is_not_created_again() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, config_map())
        again = await cluster.http("POST", CM, config_map(data={"other": "x"}))
        assert again.status == 409
        assert again.message == 'configmaps "a" already exists'
        assert (await cluster.http("GET", f"{CM}/a")).json["data"] == {"k": "v"}


async def test_generate_name() -> None:
    async with api_cluster() as cluster:
        names = set()
        for _ in range(5):
            made = await cluster.http("POST", CM, {"metadata": {"generateName": "x" * 70}})
            names.add(made.json["metadata"]["name"])
        assert len(names) == 5
        assert all(name.startswith("x" * 58) and len(name) == 63 for name in names)


async def test_update_needs_the_newest_version() -> None:
    async with api_cluster() as cluster:
        first = (await cluster.http("POST", CM, config_map())).json
        first["data"] = {"k": "2"}
        second = await cluster.http("PUT", f"{CM}/a", first)
        assert second.status == 200
        first["data"] = {"k": "3"}
        stale = await cluster.http("PUT", f"{CM}/a", first)
        assert stale.status == 409
        assert stale.message == (
            'Operation cannot be fulfilled on configmaps "a": the object has been modified; please '
            "apply your changes to the latest version and try again"
        )
        unguarded = config_map(data={"k": "4"})
        assert (await cluster.http("PUT", f"{CM}/a", unguarded)).status == 200
        other = config_map(data={"k": "5"})
        other["metadata"]["uid"] = "someone-else"
        refused = await cluster.http("PUT", f"{CM}/a", other)
        assert refused.status == 409
        assert "Precondition failed: UID in precondition: someone-else" in refused.message
        assert (await cluster.http("GET", f"{CM}/a")).json["data"] == {"k": "4"}


async def test_an_update_without_a_change_writes_nothing() -> None:
    async with api_cluster() as cluster:
        made = await cluster.http("POST", CM, config_map())
        before = cluster.store.revision
        same = await cluster.http("PUT", f"{CM}/a", config_map())
        assert (same.status, same.body) == (200, made.body)
        assert cluster.store.revision == before


async def test_put_creates_only_where_upstream_does() -> None:
    async with api_cluster() as cluster:
        missing = await cluster.http("PUT", f"{CM}/a", config_map())
        assert missing.status == 404
        endpoints = "/api/v1/namespaces/default/endpoints/e"
        made = await cluster.http("PUT", endpoints, {"metadata": {"name": "e"}})
        assert made.status == 201


CREATED_BY_PUT = {
    "clusterrolebindings", "clusterroles", "endpoints", "events", "leases", "limitranges",
    "rolebindings", "roles", "runtimeclasses", "services",
}  # fmt: skip
"""Upstream's whole table of AllowCreateOnUpdate."""
METADATA_BY_STATUS = {
    "certificatesigningrequests", "cronjobs", "daemonsets", "horizontalpodautoscalers",
    "ingresses", "jobs", "namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes",
    "poddisruptionbudgets", "replicasets", "replicationcontrollers", "resourcequotas", "services",
    "statefulsets",
}  # fmt: skip
"""Those whose /status changes metadata too, but for pods, which need a service account here."""


async def test_what_puts_create_and_what_status_leaves_alone_in_every_kind() -> None:
    async with api_cluster() as cluster:
        created, changed = set(), set()
        for resource in [item for item in cluster.server.resources if "create" in item.verbs]:
            if not resource.storage or resource.plural == "pods" or "update" not in resource.verbs:
                continue
            path = resource.path("default" if resource.namespaced else "")
            obj = sample(resource, "by-put")
            where = f"{path}/{obj['metadata']['name']}"
            if (await cluster.http("PUT", f"{where}?dryRun=All", obj)).status == 201:
                created.add(resource.plural)
            status = resource.subresources.get("status")
            if status is None or "patch" not in status.verbs:
                continue
            await cluster.http("POST", path, obj)
            patch = {"metadata": {"labels": {"by": "status"}}}
            answer = await cluster.http("PATCH", f"{where}/status", patch, content_type=MERGE)
            assert answer.status == 200, answer.message
            if "by" in (answer.json["metadata"].get("labels") or {}):
                changed.add(resource.plural)
        assert created == CREATED_BY_PUT
        assert changed == METADATA_BY_STATUS


async def test_dry_run_changes_nothing() -> None:
    async with api_cluster() as cluster:
        before = cluster.store.revision
        made = await cluster.http("POST", f"{CM}?dryRun=All", config_map())
        assert made.status == 201
        assert made.json["metadata"]["uid"]
        assert (await cluster.http("GET", f"{CM}/a")).status == 404
        await cluster.http("POST", CM, config_map())
        for method, path, body in (
            ("PUT", f"{CM}/a?dryRun=All", config_map(data={"n": "1"})),
            ("DELETE", f"{CM}/a?dryRun=All", None),
            ("DELETE", f"{CM}/a", {"dryRun": ["All"]}),
        ):
            assert (await cluster.http(method, path, body)).status == 200
        assert (await cluster.http("GET", f"{CM}/a")).json["data"] == {"k": "v"}
        assert cluster.store.revision == before + 1
        bad = await cluster.http("POST", f"{CM}?dryRun=Some", config_map("b"))
        assert bad.status == 422


async def test_status_and_spec_are_written_apart() -> None:
    async with api_cluster() as cluster:
        path = "/apis/apps/v1/namespaces/default/deployments"
        template = {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": template}
        body = {"metadata": {"name": "d"}, "spec": spec, "status": {"replicas": 7}}
        made = (await cluster.http("POST", path, body)).json
        assert made["metadata"]["generation"] == 1
        assert made.get("status", {}).get("replicas") is None
        status = {**made, "status": {"replicas": 1}, "spec": {**made["spec"], "replicas": 9}}
        after = (await cluster.http("PUT", f"{path}/d/status", status)).json
        assert after["status"] == {"replicas": 1}
        assert after["spec"]["replicas"] == 1
        assert after["metadata"]["generation"] == 1
        after["spec"]["replicas"] = 3
        after["status"] = {"replicas": 8}
        last = (await cluster.http("PUT", f"{path}/d", after)).json
        assert last["status"] == {"replicas": 1}
        assert last["metadata"]["generation"] == 2


async def test_unknown_fields_are_ignored_warned_of_or_refused() -> None:
    async with api_cluster() as cluster:
        body = config_map(extra=1)
        warned = await cluster.http("POST", CM, body)
        assert warned.status == 201
        assert warned.headers["Warning"] == '299 - "unknown field \\"extra\\""'
        strict = await cluster.http("POST", f"{CM}?fieldValidation=Strict", body)
        assert strict.status == 400
        assert 'strict decoding error: unknown field "extra"' in strict.message
        body["metadata"]["name"] = "b"
        ignored = await cluster.http("POST", f"{CM}?fieldValidation=Ignore", body)
        assert "Warning" not in ignored.headers
        assert "extra" not in ignored.json
        twice = b'{"metadata":{"name":"c"},"data":{"k":"1","k":"2"}}'
        refused = await cluster.http("POST", f"{CM}?fieldValidation=Strict", twice)
        assert 'duplicate field "data.k"' in refused.message


async def test_yaml_goes_in_and_out() -> None:
    async with api_cluster() as cluster:
        text = b"metadata:\n  name: doc\ndata:\n  on: 'yes'\n"
        made = await cluster.http("POST", CM, text, content_type="application/yaml")
        assert made.status == 201
        got = await cluster.http("GET", f"{CM}/doc", accept="application/yaml")
        assert b"kind: ConfigMap" in got.body


async def test_events_are_one_store_for_both_groups() -> None:
    async with api_cluster() as cluster:
        body = {
            "metadata": {"name": "e"},
            "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
            "note": "hello",
            "reason": "Started",
            "action": "Start",
            "type": "Normal",
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "test",
            "reportingInstance": "test-1",
        }
        made = await cluster.http("POST", "/apis/events.k8s.io/v1/namespaces/default/events", body)
        assert made.status == 201, made.message
        assert made.json["note"] == "hello"
        core = (await cluster.http("GET", "/api/v1/namespaces/default/events/e")).json
        assert (core["apiVersion"], core["message"]) == ("v1", "hello")
        assert core["involvedObject"]["name"] == "p"
        path = "/apis/events.k8s.io/v1/namespaces/default/events"
        listed = (await cluster.http("GET", path)).json
        assert listed["items"][0]["regarding"]["name"] == "p"
        found = await cluster.http("GET", "/api/v1/events?fieldSelector=involvedObject.name=p")
        assert len(found.json["items"]) == 1


async def make(cluster: Cluster, *names: str) -> None:
    for name in names:
        await cluster.http("POST", CM, config_map(name))


async def test_some_kinds_are_not_replaced_without_their_version() -> None:
    async with api_cluster() as cluster:
        leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
        body = {"metadata": {"name": "a"}, "spec": {"holderIdentity": "x"}}
        # Leases may be created by a PUT, but not replaced blindly.
        assert (await cluster.http("PUT", f"{leases}/a", body)).status == 201
        refused = await cluster.http("PUT", f"{leases}/a", body)
        assert (refused.status, refused.message) == (
            422,
            'leases.coordination.k8s.io "a" is invalid: metadata.resourceVersion: '
            "Invalid value: 0: must be specified for an update",
        )
        version = (await cluster.http("GET", f"{leases}/a")).json["metadata"]["resourceVersion"]
        body["metadata"]["resourceVersion"] = version
        assert (await cluster.http("PUT", f"{leases}/a", body)).status == 200
        gone = {"metadata": {"name": "b", "uid": "u"}}
        refused = await cluster.http("PUT", f"{CM}/b", gone)
        assert refused.status == 409
        assert refused.message.endswith(
            "StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/b, "
            "ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: u, "
            "UID in object meta: "
        )


async def test_an_owner_named_twice_is_kept_once() -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u1"}
    other = {**owner, "name": "p"}
    said = (
        '299 - ".metadata.ownerReferences contains duplicate entries{}; API server dedups owner '
        "references in 1.20+, and may reject such requests as early as 1.24; please fix your "
        'requests; duplicate UID(s) observed: u1"'
    )
    async with api_cluster() as cluster:
        body = {"metadata": {"name": "a", "ownerReferences": [owner, other, owner]}}
        made = await cluster.http("POST", CM, body)
        assert made.json["metadata"]["ownerReferences"] == [owner, other]
        assert made.headers.get("Warning") == said.format("")
        put = await cluster.http("PUT", f"{CM}/a", body)
        assert put.json["metadata"]["ownerReferences"] == [owner, other]
        assert put.headers.get("Warning") == said.format("")
        patch = [{"op": "copy", "from": "/metadata/ownerReferences/0",
                  "path": "/metadata/ownerReferences/-"}]  # fmt: skip
        patched = await cluster.http(
            "PATCH", f"{CM}/a", patch, content_type="application/json-patch+json"
        )
        assert patched.json["metadata"]["ownerReferences"] == [owner, other]
        after = " after mutating admission happens"
        assert patched.headers.get("Warning") == said.format(after)
