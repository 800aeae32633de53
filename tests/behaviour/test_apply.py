"""Server-side apply (KEP-555): merging, conflicts, removal, subresources, migration.

The cases follow upstream's test/integration/apiserver/apply.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from tests.kit.clock import FakeClock
from tests.kit.cluster import Answer, Cluster, api_cluster

from .test_ownership import (
    DEPLOYMENTS,
    MAPS,
    MERGE,
    NAMESPACE,
    PODS,
    STRATEGIC,
    config,
    deployment,
    managed,
    times,
)

APPLY = "application/apply-patch+yaml"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


async def apply(
    cluster: Cluster, path: str, body: Any, manager: str = "one", query: str = ""
) -> Answer:
    where = f"{path}?fieldManager={manager}{query}"
    return await cluster.http("PATCH", where, body, content_type=APPLY)


def typed(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Only the type of `body`, and what is given."""
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], **fields}


async def test_apply_creates_and_owns_only_what_it_says() -> None:
    async with api_cluster() as cluster:
        made = await apply(cluster, f"{DEPLOYMENTS}/d", deployment(replicas=2))
        assert made.status == 201
        assert managed(made) == {
            ("one", "Apply", ""): {
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:template": {
                        "f:metadata": {"f:labels": {"f:a": {}}},
                        "f:spec": {
                            "f:containers": {
                                'k:{"name":"c"}': {".": {}, "f:image": {}, "f:name": {}}
                            }
                        },
                    },
                }
            }
        }
        again = await apply(cluster, f"{DEPLOYMENTS}/d", deployment(replicas=2))
        assert again.status == 200
        assert again.json["metadata"] == made.json["metadata"]


async def test_an_apply_that_changes_nothing_keeps_version_and_time() -> None:
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        made = await apply(cluster, f"{MAPS}/c", config(a="1"))
        await clock.advance(5)
        same = await apply(cluster, f"{MAPS}/c", config(a="1"))
        assert same.json["metadata"] == made.json["metadata"]
        changed = await apply(cluster, f"{MAPS}/c", config(a="2"))
        assert times(changed) != times(made)


async def test_a_conflict_names_the_manager_and_the_field() -> None:
    async with api_cluster() as cluster:
        path = f"{DEPLOYMENTS}/d"
        await apply(cluster, path, deployment(replicas=2))
        scale = {"spec": {"replicas": 5}}
        await cluster.http("PATCH", f"{path}?fieldManager=two", scale, content_type=MERGE)
        refused = await apply(cluster, path, deployment(replicas=2))
        assert refused.status == 409
        assert refused.message == (
            'Apply failed with 1 conflict: conflict with "two" using apps/v1: .spec.replicas'
        )
        assert refused.json["details"]["causes"] == [
            {
                "reason": "FieldManagerConflict",
                "message": 'conflict with "two" using apps/v1',
                "field": ".spec.replicas",
            }
        ]
        forced = await apply(cluster, path, deployment(replicas=2), query="&force=true")
        assert forced.json["spec"]["replicas"] == 2
        assert set(managed(forced)) == {("one", "Apply", "")}


async def test_several_conflicts_are_listed_by_manager() -> None:
    async with api_cluster() as cluster:
        path = f"{MAPS}/c"
        await apply(cluster, path, config(a="1", b="1"), "first")
        body = {"data": {"c": "1"}}
        await cluster.http("PATCH", f"{path}?fieldManager=second", body, content_type=MERGE)
        refused = await apply(cluster, path, config(a="2", b="2", c="2"), "third")
        assert refused.message == (
            "Apply failed with 3 conflicts: "
            'conflicts with "first":\n- .data.a\n- .data.b\n'
            'conflicts with "second" using v1:\n- .data.c'
        )
        assert [cause["field"] for cause in refused.json["details"]["causes"]] == [
            ".data.a", ".data.b", ".data.c",
        ]  # fmt: skip


async def test_equal_values_are_shared_and_go_with_their_last_owner() -> None:
    async with api_cluster() as cluster:
        path = f"{MAPS}/c"
        await apply(cluster, path, config(a="1", b="1"), "one")
        shared = await apply(cluster, path, config(b="1"), "two")
        assert managed(shared)["two", "Apply", ""] == {"f:data": {"f:b": {}}}
        less = await apply(cluster, path, typed(config()), "one")
        assert less.json["data"] == {"b": "1"}
        assert set(managed(less)) == {("two", "Apply", "")}
        none = await apply(cluster, path, typed(config()), "two")
        assert "data" not in none.json
        assert managed(none) == {}


async def test_items_go_when_they_are_no_longer_applied() -> None:
    async with api_cluster() as cluster:
        path = f"{DEPLOYMENTS}/d"
        body = deployment()
        container = body["spec"]["template"]["spec"]["containers"][0]
        container["ports"] = [{"containerPort": 80}, {"containerPort": 443, "name": "s"}]
        container["env"] = [{"name": "A", "value": "1"}]
        await apply(cluster, path, body)
        container["ports"].pop(0)
        del container["env"]
        less = (await apply(cluster, path, body)).json["spec"]["template"]["spec"]["containers"][0]
        assert [port["containerPort"] for port in less["ports"]] == [443]
        assert "env" not in less
        assert less["image"] == "i"


async def test_defaults_that_nobody_applied_stay_until_their_struct_goes() -> None:
    async with api_cluster() as cluster:
        path = f"{DEPLOYMENTS}/d"
        body = deployment()
        container = body["spec"]["template"]["spec"]["containers"][0]
        container["livenessProbe"] = {"httpGet": {"path": "/", "port": 1}}
        made = await apply(cluster, path, body)
        probe = made.json["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]
        assert probe["periodSeconds"] == 10
        del container["livenessProbe"]
        gone = (await apply(cluster, path, body)).json
        assert "livenessProbe" not in gone["spec"]["template"]["spec"]["containers"][0]


async def test_an_object_nobody_tracked_was_written_before_the_first_apply() -> None:
    async with api_cluster() as cluster:
        path = f"{MAPS}/c"
        await cluster.http("POST", MAPS, config(a="1"))
        clear = {"metadata": {"managedFields": []}}
        await cluster.http("PATCH", path, clear, content_type=MERGE)
        refused = await apply(cluster, path, config(a="2"))
        assert refused.message == (
            'Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.a'
        )
        forced = await apply(cluster, path, config(a="2"), query="&force=true")
        assert managed(forced) == {
            ("before-first-apply", "Update", ""): {"f:data": {}},
            ("one", "Apply", ""): {"f:data": {"f:a": {}}},
        }


async def test_kubectl_takes_over_what_it_applied_from_the_client() -> None:
    async with api_cluster() as cluster:
        path = f"{MAPS}/c"
        body = config(a="1", b="1")
        body["metadata"]["annotations"] = {LAST_APPLIED: orjson.dumps(body).decode() + "\n"}
        await cluster.http("POST", f"{MAPS}?fieldManager=kubectl-client-side-apply", body)
        other = {"data": {"b": "9"}}
        await cluster.http("PATCH", f"{path}?fieldManager=other", other, content_type=MERGE)
        assert (await apply(cluster, path, config(a="2"), "someone")).status == 409
        refused = await apply(cluster, path, config(a="2", b="2"), "kubectl")
        assert refused.message == (
            'Apply failed with 1 conflict: conflict with "other" using v1: .data.b'
        )
        taken = await apply(cluster, path, config(a="2"), "kubectl")
        assert taken.status == 200, taken.message
        last = orjson.loads(taken.json["metadata"]["annotations"][LAST_APPLIED])
        assert last["data"] == {"a": "2"}
        assert managed(taken)["kubectl", "Apply", ""] == {"f:data": {"f:a": {}}}


async def test_status_is_applied_by_itself() -> None:
    async with api_cluster() as cluster:
        path = f"{DEPLOYMENTS}/d"
        body = deployment(replicas=1) | {"status": {"replicas": 5}}
        made = await apply(cluster, path, body)
        assert "f:status" not in managed(made)["one", "Apply", ""]
        status = typed(body, spec={"replicas": 9}, status={"replicas": 1})
        shown = await apply(cluster, f"{path}/status", status)
        assert shown.json["spec"]["replicas"] == 1
        assert managed(shown)["one", "Apply", "status"] == {"f:status": {"f:replicas": {}}}
        refused = await apply(cluster, f"{path}/status", typed(body, status={"replicas": 2}), "two")
        assert refused.message == (
            'Apply failed with 1 conflict: conflict with "one" with subresource "status": '
            ".status.replicas"
        )
        missing = await apply(cluster, f"{DEPLOYMENTS}/x/status", status)
        assert missing.status == 404


async def test_nobody_owns_metadata_that_status_leaves_alone() -> None:
    attachment = {
        "attacher": "example.com",
        "nodeName": "n",
        "source": {"persistentVolumeName": "v"},
    }
    cases = (
        ("/api/v1/nodes", "v1", "Node", {}, {"phase": "x"}, {"f:labels", "f:annotations"}),
        (DEPLOYMENTS, "apps/v1", "Deployment", deployment()["spec"], {"replicas": 1},
         {"f:annotations"}),
        ("/apis/storage.k8s.io/v1/volumeattachments", "storage.k8s.io/v1", "VolumeAttachment",
         attachment, {"attached": True}, set()),
    )  # fmt: skip
    async with api_cluster() as cluster:
        for path, api_version, kind, spec, status, owned in cases:
            made = await cluster.http("POST", path, {"metadata": {"name": "x"}, "spec": spec})
            assert made.status == 201, made.message
            notes = {"labels": {"a": "b"}, "annotations": {"c": "d"}}
            body = {"apiVersion": api_version, "kind": kind, "metadata": notes, "status": status}
            answer = await apply(cluster, f"{path}/x/status", body)
            assert answer.status == 200, answer.message
            fields = managed(answer)["one", "Apply", "status"]
            assert set(fields.get("f:metadata", ())) == owned, kind
            assert fields["f:status"]


async def test_scale_is_applied_and_conflicts_with_the_object() -> None:
    async with api_cluster() as cluster:
        path = f"{DEPLOYMENTS}/d"
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 5}}
        await apply(cluster, path, deployment(replicas=1))
        refused = await apply(cluster, f"{path}/scale", scale, "two")
        assert (refused.status, refused.message) == (
            409, 'Apply failed with 1 conflict: conflict with "one": .spec.replicas'
        )  # fmt: skip
        forced = await apply(cluster, f"{path}/scale", scale, "two", "&force=true")
        assert forced.json["spec"]["replicas"] == 5
        assert forced.json["kind"] == "Scale"
        found = managed(await cluster.http("GET", path))
        assert found["two", "Apply", "scale"] == {"f:spec": {"f:replicas": {}}}
        assert "f:replicas" not in found["one", "Apply", ""]["f:spec"]
        refused = await apply(cluster, path, deployment(replicas=1))
        assert refused.message == (
            'Apply failed with 1 conflict: conflict with "two" with subresource "scale": '
            ".spec.replicas"
        )


async def test_resize_takes_and_owns_only_resources() -> None:
    async with api_cluster() as cluster:
        path = f"{PODS}/p"
        resources = {"requests": {"cpu": "1", "memory": "1Gi"}}
        account = {"metadata": {"name": "default"}}
        await cluster.http("POST", f"{NAMESPACE}/serviceaccounts", account)
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
        spec = {"containers": [{"name": "c", "image": "i", "resources": resources}]}
        made = await apply(cluster, path, pod | {"spec": spec})
        assert made.status == 201, made.message
        more = {"requests": {"cpu": "2"}}
        wanted = {"containers": [{"name": "c", "image": "other", "resources": more}]}
        refused = await apply(cluster, f"{path}/resize", pod | {"spec": wanted}, "two")
        assert (refused.status, refused.message) == (
            409,
            'Apply failed with 1 conflict: conflict with "one": '
            '.spec.containers[name="c"].resources.requests.cpu',
        )
        done = await apply(cluster, f"{path}/resize", pod | {"spec": wanted}, "two", "&force=true")
        assert done.status == 200, done.message
        found = done.json["spec"]["containers"][0]
        assert (found["image"], found["resources"]["requests"]["cpu"]) == ("i", "2")
        assert done.json["metadata"]["generation"] == 2
        assert managed(done)["two", "Apply", "resize"] == {
            "f:spec": {
                "f:containers": {'k:{"name":"c"}': {"f:resources": {"f:requests": {"f:cpu": {}}}}}
            }
        }


async def test_values_of_another_type_are_told_as_upstream() -> None:
    container = {"name": "c", "env": [{"name": "a", "value": 5}], "args": [1],
                 "ports": [{"containerPort": "x"}]}  # fmt: skip
    spec = {"replicas": "two", "paused": "no", "template": {"spec": {"containers": [container]}}}
    place = '.spec.template.spec.containers[name="c"]'
    text = "expected string, got &value.valueUnstructured{Value:"
    cases: list[tuple[str, str, str, dict[str, Any], str]] = [
        (MAPS, "v1", "ConfigMap", {"data": {"on": True}}, f".data.on: {text}true}}"),
        (MAPS, "v1", "ConfigMap", {"data": ["x"]}, ".data: expected map, got &{[x]}"),
        (DEPLOYMENTS, "apps/v1", "Deployment",
         {"spec": {"template": {"spec": {"containers": "x"}}}},
         ".spec.template.spec.containers: expected list, got &{x}"),
        (DEPLOYMENTS, "apps/v1", "Deployment", {"spec": spec},
         "errors:\n  .spec.replicas: expected numeric (int or float), got string\n"
         "  .spec.paused: expected boolean, got &{no}\n"
         f'  {place}.env[name="a"].value: {text}5}}\n'
         f"  {place}.args[0]: {text}1}}\n"
         f'  {place}.ports[containerPort="x",protocol="TCP"].containerPort: expected numeric (int '
         "or float), got string"),
    ]  # fmt: skip
    async with api_cluster() as cluster:
        for path, api_version, kind, fields, words in cases:
            body = {"apiVersion": api_version, "kind": kind, **fields}
            answer = await apply(cluster, f"{path}/x", body)
            prefix = f"failed to create typed patch object (/; /{api_version}, Kind={kind}): "
            assert (answer.status, answer.message) == (
                400, prefix.replace("/apps/", "apps/") + words
            )  # fmt: skip


async def test_what_cannot_be_applied_is_told_as_upstream() -> None:
    async with api_cluster() as cluster:
        path = f"{DEPLOYMENTS}/d"
        body = deployment()

        async def refused(change: dict[str, Any], where: str = path) -> tuple[int, str]:
            answer = await apply(cluster, where, {**body, **change})
            return answer.status, answer.message

        unnamed = await cluster.http("PATCH", path, body, content_type=APPLY)
        assert unnamed.status == 422
        assert "fieldManager: Required value: is required for apply patch" in unnamed.message
        assert await refused({"apiVersion": "apps/v2"}) == (
            400, "invalid object type: apps/v2, Kind=Deployment"
        )  # fmt: skip
        with_fields = {"metadata": {"name": "d", "managedFields": []}}
        assert await refused(with_fields) == (400, "metadata.managedFields must be nil")
        unknown = {"metadata": {"name": "d"}, "spec": {**body["spec"], "foo": 1, "bar": {}}}
        assert await refused(unknown) == (
            400,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): errors:\n"
            "  .spec.foo: field not declared in schema\n"
            "  .spec.bar: field not declared in schema",
        )
        twice = deployment()
        twice["spec"]["template"]["spec"]["containers"] *= 2
        assert await refused(twice) == (
            400,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): "
            '.spec.template.spec.containers: duplicate entries for key [name="c"]',
        )
        named = {"metadata": {"name": "d", "uid": "u"}}
        status, message = await refused(named)
        assert status == 409
        assert message.endswith(
            "uid mismatch: the provided object specified uid u, and no existing object was found"
        )
        await apply(cluster, path, body)
        status, message = await refused(named)
        assert (status, message.partition("metadata.")[2]) == (
            422, 'uid: Invalid value: "u": field is immutable'
        )  # fmt: skip
        versioned = {"metadata": {"name": "d", "resourceVersion": "1"}}
        status, message = await refused(versioned | {"spec": {**body["spec"], "replicas": 3}})
        assert (status, "the object has been modified" in message) == (409, True)
        renamed = {"metadata": {"name": "other"}}
        assert (await refused(renamed))[0] == 400
        yaml = b"apiVersion: apps/v1\nkind: Deployment\nkind: Deployment\n"
        answer = await apply(cluster, path, yaml, query="&fieldValidation=Strict")
        assert answer.status == 400
        assert answer.message.startswith("error strict decoding YAML")


async def test_a_dry_run_applies_nothing() -> None:
    async with api_cluster() as cluster:
        path = f"{MAPS}/c"
        made = await apply(cluster, path, config(a="1"), query="&dryRun=All")
        assert made.status == 201
        assert (await cluster.http("GET", path)).status == 404


async def test_duplicates_that_are_there_are_replaced() -> None:
    async with api_cluster() as cluster:
        env = [
            {"name": "A", "value": "1"},
            {"name": "A", "value": "2"},
            {"name": "B", "value": "1"},
        ]
        body = {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "r"}}
        container = {"name": "c", "image": "i", "env": env}
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
        spec = {"selector": {"a": "b"}, "template": template}
        path = f"{NAMESPACE}/replicationcontrollers"
        made = await cluster.http("POST", f"{path}?fieldManager=one", {**body, "spec": spec})
        fields = managed(made)["one", "Update", ""]["f:spec"]["f:template"]["f:spec"]
        env_fields = fields["f:containers"]['k:{"name":"c"}']["f:env"]
        assert env_fields['k:{"name":"A"}'] == {}
        less = {"name": "c", "env": [{"name": "A", "value": "3"}]}
        body["spec"] = {"template": {"spec": {"containers": [less]}}}
        applied = await apply(cluster, f"{path}/r", body, "two", "&force=true")
        env = applied.json["spec"]["template"]["spec"]["containers"][0]["env"]
        assert env == [{"name": "A", "value": "3"}, {"name": "B", "value": "1"}]


async def test_null_counts_as_applied_and_removes_nothing_of_others() -> None:
    async with api_cluster() as cluster:
        path = f"{MAPS}/c"
        await apply(cluster, path, config(a="1"), "one")
        answer = await apply(cluster, path, {**config(), "data": {"b": "2"}}, "two")
        assert answer.json["data"] == {"a": "1", "b": "2"}


async def test_an_older_version_of_the_kind_is_merged_by_its_own_fields() -> None:
    async with api_cluster() as cluster:
        scalers = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers/h"
        target = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "HorizontalPodAutoscaler",
            "spec": {"maxReplicas": 3, "scaleTargetRef": target},
        }
        made = await apply(cluster, scalers.format("v1"), body)
        assert made.status == 201, made.message
        newer = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "spec": {"maxReplicas": 4},
        }
        refused = await apply(cluster, scalers.format("v2"), newer, "two")
        assert refused.message == (
            'Apply failed with 1 conflict: conflict with "one": .spec.maxReplicas'
        )
        again = await apply(
            cluster, scalers.format("v1"), {**body, "spec": {**body["spec"], "maxReplicas": 5}}
        )
        assert again.json["spec"]["maxReplicas"] == 5


async def test_what_was_applied_in_an_older_version_goes_with_the_newer() -> None:
    async with api_cluster() as cluster:
        scalers = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers/h"
        target = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
        spec = {"maxReplicas": 3, "minReplicas": 2, "scaleTargetRef": target}
        kind = "HorizontalPodAutoscaler"
        older = {"apiVersion": "autoscaling/v1", "kind": kind,
                 "spec": spec | {"targetCPUUtilizationPercentage": 50}}  # fmt: skip
        made = await apply(cluster, scalers.format("v1"), older)
        assert made.status == 201, made.message
        spec.pop("minReplicas")
        newer = {"apiVersion": "autoscaling/v2", "kind": kind, "spec": spec}
        answer = await apply(cluster, scalers.format("v2"), newer)
        assert answer.status == 200, answer.message
        assert answer.json["spec"] == {
            "maxReplicas": 3,
            "minReplicas": 1,
            "scaleTargetRef": target,
            "metrics": [
                {"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
            ],
        }  # fmt: skip


async def test_strategic_patches_and_applies_share_one_object() -> None:
    async with api_cluster() as cluster:
        account = {"metadata": {"name": "default"}}
        await cluster.http("POST", f"{NAMESPACE}/serviceaccounts", account)
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "finalizers": ["example.com/one"]},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        made = await apply(cluster, f"{PODS}/p", body)
        assert managed(made)["one", "Apply", ""]["f:metadata"] == {
            "f:finalizers": {'v:"example.com/one"': {}}
        }
        patch = {"metadata": {"finalizers": ["example.com/two"]}}
        both = await cluster.http(
            "PATCH", f"{PODS}/p?fieldManager=two", patch, content_type=STRATEGIC
        )
        assert both.json["metadata"]["finalizers"] == ["example.com/two", "example.com/one"]
        del body["metadata"]["finalizers"]  # type: ignore[attr-defined]
        less = await apply(cluster, f"{PODS}/p", body)
        assert less.json["metadata"]["finalizers"] == ["example.com/two"]


async def test_many_appliers_at_once_all_get_their_fields() -> None:
    async with api_cluster() as cluster:
        path = f"{MAPS}/c"

        async def one(number: int) -> int:
            body = config(**{f"k{number}": "1"})
            return (await apply(cluster, path, body, f"applier-{number}")).status

        statuses = await asyncio.gather(*map(one, range(20)))
        assert sorted(statuses) == [200] * 19 + [201]
        found = await cluster.http("GET", path)
        assert set(found.json["data"]) == {f"k{number}" for number in range(20)}
        assert len(managed(found)) == 20


async def test_a_part_takes_and_owns_its_part_only() -> None:
    async with api_cluster() as cluster:
        account = {"metadata": {"name": "default"}}
        await cluster.http("POST", f"{NAMESPACE}/serviceaccounts", account)
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        await apply(cluster, f"{PODS}/p", body)
        debugger = {"name": "d", "image": "busybox"}
        spec = {"containers": [{"name": "c", "image": "other"}], "ephemeralContainers": [debugger]}
        config = typed(body, metadata={"name": "p", "labels": {"a": "b"}}, spec=spec)
        shown = await apply(cluster, f"{PODS}/p/ephemeralcontainers", config, "two")
        assert shown.status == 200, shown.message
        assert shown.json["spec"]["containers"][0]["image"] == "i"
        assert managed(shown)["two", "Apply", "ephemeralcontainers"] == {
            "f:spec": {
                "f:ephemeralContainers": {'k:{"name":"d"}': {".": {}, "f:image": {}, "f:name": {}}}
            }
        }
