"""metadata.managedFields: what each write records, as upstream's field manager does."""

from __future__ import annotations

from typing import Any

from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.server.exchange import Request, User
from tests.kit.clock import FakeClock
from tests.kit.cluster import ADMIN, Answer, api_cluster

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json-patch+json"
NAMESPACE = "/api/v1/namespaces/default"
MAPS = f"{NAMESPACE}/configmaps"
PODS = f"{NAMESPACE}/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def config(name: str = "c", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(**spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec},
    }


def managed(answer: Answer) -> dict[tuple[str, str, str], Any]:
    """(manager, operation, subresource) -> fieldsV1."""
    assert answer.status < 300, answer.message
    entries = answer.json["metadata"].get("managedFields", [])
    assert all(entry["fieldsType"] == "FieldsV1" and entry["time"] for entry in entries)
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): entry["fieldsV1"]
        for entry in entries
    }


def times(answer: Answer) -> dict[str, str]:
    entries = answer.json["metadata"]["managedFields"]
    return {entry["manager"]: entry["time"] for entry in entries}


async def test_a_create_owns_what_it_sets_and_what_defaults_add() -> None:
    async with api_cluster() as cluster:
        made = await cluster.http("POST", f"{DEPLOYMENTS}?fieldManager=me", deployment(replicas=1))
        fields = managed(made)["me", "Update", ""]
        assert fields == {
            "f:spec": {
                "f:progressDeadlineSeconds": {},
                "f:replicas": {},
                "f:revisionHistoryLimit": {},
                "f:selector": {},
                "f:strategy": {
                    "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
                    "f:type": {},
                },
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                    "f:spec": {
                        "f:containers": {
                            'k:{"name":"c"}': {
                                ".": {},
                                "f:image": {},
                                "f:imagePullPolicy": {},
                                "f:name": {},
                                "f:resources": {},
                                "f:terminationMessagePath": {},
                                "f:terminationMessagePolicy": {},
                            }
                        },
                        "f:dnsPolicy": {},
                        "f:restartPolicy": {},
                        "f:schedulerName": {},
                        "f:securityContext": {},
                        "f:terminationGracePeriodSeconds": {},
                    },
                },
            }
        }


async def test_what_admission_adds_is_nobodys() -> None:
    async with api_cluster() as cluster:
        account = {"metadata": {"name": "default"}}
        await cluster.http("POST", f"{NAMESPACE}/serviceaccounts", account)
        body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        made = await cluster.http("POST", f"{PODS}?fieldManager=me", body)
        spec = managed(made)["me", "Update", ""]["f:spec"]
        assert made.json["spec"]["serviceAccountName"] == "default"
        assert made.json["spec"]["tolerations"]
        assert not {"f:serviceAccountName", "f:tolerations", "f:volumes"} & set(spec)
        assert "f:enableServiceLinks" in spec


async def test_the_manager_is_named_or_is_the_user_agent() -> None:
    async with api_cluster() as cluster:

        async def create(name: str, agent: str, query: dict[str, list[str]]) -> set[str]:
            headers = {"content-type": "application/json", "user-agent": agent}
            request = Request("POST", MAPS, query, headers, config(name, a="1"), ADMIN)
            answer = await cluster.server.handle(request)
            return {name for name, _, _ in managed(await cluster.http("GET", f"{MAPS}/{name}"))} | {
                str(getattr(answer, "status", 0))
            }

        assert await create("a", "kubectl/v1.36.0 (linux/amd64)", {}) == {"kubectl", "201"}
        assert await create("b", "x/1", {"fieldManager": ["given"]}) == {"given", "201"}
        assert await create("c", "bad\x00name/1", {}) == {"badname", "201"}
        long = await create("d", "n" * 200, {})
        assert long == {"n" * 128, "201"}


async def test_an_update_takes_what_it_changes_and_gives_up_what_it_removes() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", f"{MAPS}?fieldManager=one", config(a="1", b="1", c="1"))
        changed = await cluster.http(
            "PATCH",
            f"{MAPS}/c?fieldManager=two",
            {"data": {"b": "2", "c": None}},
            content_type=MERGE,
        )
        assert managed(changed) == {
            ("one", "Update", ""): {"f:data": {".": {}, "f:a": {}}},
            ("two", "Update", ""): {"f:data": {"f:b": {}}},
        }
        taken = await cluster.http("PUT", f"{MAPS}/c?fieldManager=three", config(a="3", b="3"))
        assert managed(taken) == {
            ("one", "Update", ""): {"f:data": {}},
            ("three", "Update", ""): {"f:data": {"f:a": {}, "f:b": {}}},
        }


async def test_time_and_version_stay_when_nothing_changes() -> None:
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        made = await cluster.http("POST", f"{MAPS}?fieldManager=one", config(a="1"))
        began = times(made)["one"]
        await clock.advance(10)
        same = await cluster.http("PUT", f"{MAPS}/c?fieldManager=two", config(a="1"))
        assert times(same) == {"one": began}
        assert same.json["metadata"]["resourceVersion"] == made.json["metadata"]["resourceVersion"]
        patch = {"data": {"a": "2"}}
        later = await cluster.http("PATCH", f"{MAPS}/c?fieldManager=one", patch, content_type=MERGE)
        assert times(later)["one"] != began
        assert managed(later) == managed(made)


async def test_status_is_owned_by_who_writes_status() -> None:
    async with api_cluster() as cluster:
        body = deployment() | {"status": {"replicas": 7}}
        made = await cluster.http("POST", f"{DEPLOYMENTS}?fieldManager=me", body)
        assert "f:status" not in managed(made)["me", "Update", ""]
        put = await cluster.http("PUT", f"{DEPLOYMENTS}/d?fieldManager=me2", body)
        assert ("me2", "Update", "") not in managed(put)
        status = {"spec": {"replicas": 9}, "status": {"replicas": 1, "observedGeneration": 1}}
        patched = await cluster.http(
            "PATCH", f"{DEPLOYMENTS}/d/status?fieldManager=me", status, content_type=MERGE
        )
        fields = {"f:status": {"f:observedGeneration": {}, "f:replicas": {}}}
        assert managed(patched)["me", "Update", "status"] == fields
        assert patched.json["spec"]["replicas"] == 1


async def test_scale_owns_the_replicas() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", f"{DEPLOYMENTS}?fieldManager=me", deployment(replicas=1))
        scaled = await cluster.http(
            "PATCH", f"{DEPLOYMENTS}/d/scale?fieldManager=hpa", {"spec": {"replicas": 5}},
            content_type=MERGE,
        )  # fmt: skip
        assert scaled.status == 200
        found = managed(await cluster.http("GET", f"{DEPLOYMENTS}/d"))
        assert found["hpa", "Update", "scale"] == {"f:spec": {"f:replicas": {}}}
        assert "f:replicas" not in found["me", "Update", ""]["f:spec"]


async def test_managers_of_updates_are_capped() -> None:
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        await cluster.http("POST", f"{MAPS}?fieldManager=first", config(first="1"))
        for number in range(20):
            await clock.advance(1)
            body = {"data": {f"k{number}": "1"}}
            path = f"{MAPS}/c?fieldManager=updater-{number}"
            last = await cluster.http("PATCH", path, body, content_type=MERGE)
        found = managed(last)
        assert len(found) == 10
        old = found["ancient-changes", "Update", ""]["f:data"]
        assert set(old) == {".", "f:first", *(f"f:k{number}" for number in range(11))}
        assert ("updater-11", "Update", "") in found


async def test_managed_fields_can_be_cleared_and_written() -> None:
    async with api_cluster() as cluster:
        for turn, (patch, media) in enumerate(
            (
                ({"metadata": {"managedFields": [{}]}}, MERGE),
                ({"metadata": {"managedFields": []}}, MERGE),
                ({"metadata": {"managedFields": [{}]}}, STRATEGIC),
                ([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}], JSON),
            )
        ):
            name = f"c{turn}"
            await cluster.http("POST", f"{MAPS}?fieldManager=me", config(name, a="1"))
            cleared = await cluster.http("PATCH", f"{MAPS}/{name}", patch, content_type=media)
            assert managed(cleared) == {}, media
            # What nobody is known to own is not tracked again until it is applied.
            again = await cluster.http("PUT", f"{MAPS}/{name}", config(name, a="2"))
            assert managed(again) == {}
        made = await cluster.http("POST", f"{MAPS}?fieldManager=me", config(a="1"))
        body = made.json
        body["metadata"]["managedFields"][0]["manager"] = "other"
        moved = await cluster.http("PUT", f"{MAPS}/c", body)
        assert managed(moved) == {("other", "Update", ""): {"f:data": {".": {}, "f:a": {}}}}
        status = {"metadata": {"managedFields": [{}]}}
        await cluster.http("POST", f"{DEPLOYMENTS}?fieldManager=me", deployment())
        kept = await cluster.http("PATCH", f"{DEPLOYMENTS}/d/status", status, content_type=MERGE)
        assert ("me", "Update", "") in managed(kept)


async def test_managed_fields_that_cannot_be_read_are_ignored() -> None:
    async with api_cluster() as cluster:
        for bad in (
            {"manager": "x", "operation": "Eat", "apiVersion": "v1", "fieldsType": "FieldsV1"},
            {"manager": "x", "operation": "Update", "fieldsType": "FieldsV1"},
            {"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "v9"},
            {
                "manager": "x",
                "operation": "Update",
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"nonsense": {}},
            },
        ):
            body = config(a="1")
            body["metadata"]["managedFields"] = [bad]
            made = await cluster.http("POST", f"{MAPS}?fieldManager=me", body)
            assert set(managed(made)) == {("me", "Update", "")}
            put = await cluster.http("PUT", f"{MAPS}/c?fieldManager=you", body)
            assert set(managed(put)) == {("me", "Update", "")}
            await cluster.http("DELETE", f"{MAPS}/c")


async def test_a_dry_run_shows_who_would_own() -> None:
    async with api_cluster() as cluster:
        made = await cluster.http("POST", f"{MAPS}?fieldManager=me&dryRun=All", config(a="1"))
        assert managed(made) == {("me", "Update", ""): {"f:data": {".": {}, "f:a": {}}}}
        assert (await cluster.http("GET", f"{MAPS}/c")).status == 404


async def test_entries_of_another_version_lose_what_changes() -> None:
    async with api_cluster() as cluster:
        scalers = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
        body = {
            "metadata": {"name": "h"},
            "spec": {
                "maxReplicas": 3,
                "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
                "targetCPUUtilizationPercentage": 50,
            },
        }
        made = await cluster.http("POST", scalers.format("v1") + "?fieldManager=one", body)
        assert made.json["metadata"]["managedFields"][0]["apiVersion"] == "autoscaling/v1"
        patched = await cluster.http(
            "PATCH", scalers.format("v2") + "/h?fieldManager=two", {"spec": {"maxReplicas": 4}},
            content_type=MERGE,
        )  # fmt: skip
        found = managed(patched)
        assert found["two", "Update", ""] == {"f:spec": {"f:maxReplicas": {}}}
        assert "f:maxReplicas" not in found["one", "Update", ""]["f:spec"]
        assert "f:targetCPUUtilizationPercentage" in found["one", "Update", ""]["f:spec"]


async def test_components_in_process_go_by_their_names() -> None:
    async with api_cluster() as cluster:
        user = User("system:kube-controller-manager", ("system:masters",))
        client = Client(cluster.server.local_transport(user))
        await client.create(resource("configmaps"), config(a="1"), "default")
        assert set(managed(await cluster.http("GET", f"{MAPS}/c"))) == {
            ("kube-controller-manager", "Update", "")
        }
