"""StatefulSets from end to end in one process: order, identity, storage, rollouts."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import NotFound, Object
from sampan.client.informer import Informer
from sampan.client.interface import MERGE_PATCH, STRATEGIC_PATCH

from .statefulset_kit import (
    CLAIMS,
    REVISIONS,
    STATEFUL_SETS,
    claim_template,
    images,
    stateful_set,
    template,
)
from .test_workloads import settled
from .workload_kit import PODS, World, world


async def complete(w: World, replicas: int, image: str = "", name: str = "db") -> Object:
    """Wait until all pods are there, ready, and of this image, and the status says so."""
    sets, pods = w.cache("statefulsets", "apps"), w.cache("pods")

    def done() -> Object | None:
        found = sets.get("default", name)
        status = (found or {}).get("status") or {}
        mine = [pod for pod in pods.list() if pod["metadata"]["name"].startswith(f"{name}-")]
        kept = not image or set(images(mine).values()) <= {image}
        counts = (
            status.get("replicas"), status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
        )  # fmt: skip
        generation = (found or {"metadata": {}})["metadata"].get("generation")
        ready = counts == (replicas,) * 3 and status.get("observedGeneration") == generation
        return found if ready and kept and len(mine) == replicas else None

    found: Object = await w.until(done)
    return found


async def patch(w: World, spec: Any, name: str = "db") -> None:
    body = {"spec": spec}
    await w.client.patch(STATEFUL_SETS, name, body, "default", content_type=MERGE_PATCH)


def image(name: str) -> Object:
    return {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}


def watch_order(w: World) -> list[str]:
    """What happens to pods, in order: +name, ~name (running), -name."""
    seen: list[str] = []

    def note(old: Object | None, new: Object | None) -> None:
        if old is None and new is not None:
            seen.append(f"+{new['metadata']['name']}")
        elif new is None and old is not None:
            seen.append(f"-{old['metadata']['name']}")
        elif old is not None and new is not None:
            before, after = (item["status"].get("phase") for item in (old, new))
            if before != after and after == "Running":
                seen.append(f"~{new['metadata']['name']}")

    w.cache("pods").on_change(note)
    # What was there already is told as new.
    seen.clear()
    return seen


def cached(cache: Informer, name: str) -> Object:
    """The object; {"metadata": {}} if there is none."""
    return cache.get("default", name) or {"metadata": {}}


def owners_of(cache: Informer, name: str) -> list[Object]:
    found: list[Object] = cached(cache, name)["metadata"].get("ownerReferences") or []
    return found


def names(cache: Informer) -> list[str]:
    return sorted(item["metadata"]["name"] for item in cache.list("default"))


async def test_pods_come_one_after_another_with_names_of_their_own() -> None:
    async with world() as w:
        seen = watch_order(w)
        await w.client.create(STATEFUL_SETS, stateful_set(), "default")
        found = await complete(w, 3)
        assert seen == ["+db-0", "~db-0", "+db-1", "~db-1", "+db-2", "~db-2"]
        [revision] = (await w.client.list(REVISIONS, "default"))["items"]
        assert found["status"]["currentRevision"] == revision["metadata"]["name"]
        assert found["status"]["collisionCount"] == 0
        digest = revision["metadata"]["labels"]["controller.kubernetes.io/hash"]
        assert revision["metadata"]["name"] == f"db-{digest}"
        pod = await w.client.get(PODS, "db-1", "default")
        assert pod["metadata"]["labels"] == {
            "app": "db",
            "apps.kubernetes.io/pod-index": "1",
            "controller-revision-hash": f"db-{digest}",
            "statefulset.kubernetes.io/pod-name": "db-1",
        }
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("db-1", "db")
        assert pod["metadata"]["generateName"] == "db-"
        await settled(w)
        assert sorted(await w.events()) == [
            f"SuccessfulCreate: create Pod db-{place} in StatefulSet db successful"
            for place in range(3)
        ]


async def test_the_last_goes_first_when_it_is_scaled_down() -> None:
    async with world() as w:
        await w.client.create(STATEFUL_SETS, stateful_set(), "default")
        await complete(w, 3)
        seen = watch_order(w)
        await patch(w, {"replicas": 1})
        await complete(w, 1)
        assert seen == ["-db-2", "-db-1"]
        await settled(w)
        assert "SuccessfulDelete: delete Pod db-2 in StatefulSet db successful" in await w.events()


async def test_nothing_comes_after_a_pod_that_is_not_ready() -> None:
    async with world() as w:
        w.node.holds = lambda pod: bool(pod["metadata"]["name"] == "db-1")
        await w.client.create(STATEFUL_SETS, stateful_set(), "default")
        pods = w.cache("pods")
        await w.until(lambda: len(pods) == 2)
        await settled(w)
        assert sorted(images(pods.list())) == ["db-0", "db-1"]
        await patch(w, {"replicas": 1})
        # The one that is not ready is beyond now: it may go.
        await complete(w, 1)


async def test_a_parallel_set_waits_for_nobody() -> None:
    async with world() as w:
        w.node.holds = lambda pod: True
        body = stateful_set(podManagementPolicy="Parallel", ordinals={"start": 5})
        await w.client.create(STATEFUL_SETS, body, "default")
        pods = w.cache("pods")
        await w.until(lambda: len(pods) == 3)
        assert sorted(images(pods.list())) == ["db-5", "db-6", "db-7"]
        await patch(w, {"replicas": 1})
        await w.until(lambda: len(pods) == 1)
        assert sorted(images(pods.list())) == ["db-5"]


async def test_a_rollout_goes_down_from_the_last_and_stops_at_the_partition() -> None:
    async with world() as w:
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        await w.client.create(STATEFUL_SETS, stateful_set(updateStrategy=rolling), "default")
        first = await complete(w, 3)
        seen = watch_order(w)
        await patch(w, image("db:2"))
        pods, sets = w.cache("pods"), w.cache("statefulsets", "apps")

        def counts() -> tuple[int, ...]:
            status = sets.list()[0]["status"]
            fields = ("currentReplicas", "updatedReplicas", "readyReplicas")
            return tuple(status.get(key, 0) for key in fields)

        await w.until(lambda: counts() == (1, 2, 3))
        assert seen == ["-db-2", "+db-2", "~db-2", "-db-1", "+db-1", "~db-1"]
        assert images(pods.list()) == {"db-0": "db:1", "db-1": "db:2", "db-2": "db:2"}
        status = sets.list()[0]["status"]
        assert status["currentRevision"] == first["status"]["currentRevision"]
        assert status["updateRevision"] != status["currentRevision"]
        # Below the partition a pod comes back as it was.
        await w.client.delete(PODS, "db-0", "default")
        await w.until(lambda: seen[-1] == "~db-0")
        assert images(pods.list())["db-0"] == "db:1"
        await patch(w, {"updateStrategy": {"rollingUpdate": {"partition": 0}}})
        found = await complete(w, 3, "db:2")
        assert found["status"]["currentRevision"] == found["status"]["updateRevision"]


async def test_several_at_once_when_several_may_be_unavailable() -> None:
    async with world() as w:
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
        body = stateful_set(replicas=4, updateStrategy=rolling)
        await w.client.create(STATEFUL_SETS, body, "default")
        await complete(w, 4)
        seen = watch_order(w)
        await patch(w, image("db:2"))
        await complete(w, 4, "db:2")
        gone = [item for item in seen if item[0] != "~"]
        assert {*gone[:2]} == {"-db-3", "-db-2"}


async def test_on_delete_changes_what_is_deleted() -> None:
    async with world() as w:
        body = stateful_set(replicas=2, updateStrategy={"type": "OnDelete"})
        await w.client.create(STATEFUL_SETS, body, "default")
        await complete(w, 2)
        await patch(w, image("db:2"))
        await w.until(lambda: len(w.cache("controllerrevisions", "apps")) == 2)
        await settled(w)
        pods = w.cache("pods")
        assert {*images(pods.list()).values()} == {"db:1"}
        await w.client.delete(PODS, "db-0", "default")
        await w.until(lambda: images(pods.list()).get("db-0") == "db:2")
        assert images(pods.list())["db-1"] == "db:1"


async def test_undo_makes_the_old_revision_the_newest_and_old_ones_go() -> None:
    async with world() as w:
        await w.client.create(
            STATEFUL_SETS, stateful_set(replicas=1, revisionHistoryLimit=1), "default"
        )
        await complete(w, 1, "db:1")
        await patch(w, image("db:2"))
        await complete(w, 1, "db:2")
        revisions = (await w.client.list(REVISIONS, "default"))["items"]
        [old] = [item for item in revisions if item["revision"] == 1]
        # What kubectl rollout undo sends.
        await w.client.patch(
            STATEFUL_SETS, "db", old["data"], "default", content_type=STRATEGIC_PATCH
        )
        found = await complete(w, 1, "db:1")
        assert found["status"]["updateRevision"] == old["metadata"]["name"]
        cache = w.cache("controllerrevisions", "apps")
        await w.until(lambda: sorted(item["revision"] for item in cache.list()) == [2, 3])
        for number in (3, 4):
            await patch(w, image(f"db:{number}"))
            await complete(w, 1, f"db:{number}")
        await w.until(lambda: sorted(item["revision"] for item in cache.list()) == [4, 5])


async def replaced(w: World, before: Object) -> None:
    """Wait for another pod of the same name to run."""
    pods, meta = w.cache("pods"), before["metadata"]

    def done() -> bool:
        found = cached(pods, meta["name"])
        running = (found.get("status") or {}).get("phase") == "Running"
        return running and bool(found["metadata"]["uid"] != meta["uid"])

    await w.until(done)


async def test_a_pod_that_has_ended_is_made_anew() -> None:
    async with world() as w:
        await w.client.create(STATEFUL_SETS, stateful_set(replicas=1), "default")
        await complete(w, 1)
        for phase in ("Failed", "Succeeded"):
            pod = await w.client.get(PODS, "db-0", "default")
            ended = {**pod, "status": {**pod["status"], "phase": phase}}
            await w.client.update(PODS, ended, "status")
            await replaced(w, pod)


async def test_an_orphan_with_the_right_name_is_adopted_and_a_strange_one_let_go() -> None:
    async with world() as w:
        orphan: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "db-0", "namespace": "default", "labels": {"app": "db"}},
            "spec": {"containers": [{"name": "c", "image": "db:1"}]},
        }
        await w.until(lambda: len(w.cache("serviceaccounts").list("default")))
        made = await w.client.create(PODS, orphan, "default")
        other = {**orphan, "metadata": {**orphan["metadata"], "name": "db-a"}}
        await w.client.create(PODS, other, "default")
        body = stateful_set(replicas=1, updateStrategy={"type": "OnDelete"})
        await w.client.create(STATEFUL_SETS, body, "default")
        pods = w.cache("pods")
        label = "statefulset.kubernetes.io/pod-name"
        await w.until(lambda: cached(pods, "db-0")["metadata"]["labels"].get(label))
        found = await w.client.get(PODS, "db-0", "default")
        assert found["metadata"]["uid"] == made["metadata"]["uid"]
        assert found["metadata"]["ownerReferences"][0]["name"] == "db"
        strange = await w.client.get(PODS, "db-a", "default")
        assert "ownerReferences" not in strange["metadata"]
        await settled(w)
        assert "SuccessfulUpdate: update Pod db-0 in StatefulSet db successful" in await w.events()
        # Without the label it is nobody's, and another db-0 has to wait for its name.
        relabelled = {"metadata": {"labels": {"app": "other"}}}
        await w.client.patch(PODS, "db-0", relabelled, "default")
        await w.until(lambda: not owners_of(pods, "db-0"))
        await w.client.delete(PODS, "db-0", "default")
        await w.until(lambda: (pods.get("default", "db-0") or made)["metadata"]["uid"]
                      != made["metadata"]["uid"])  # fmt: skip


@pytest.mark.parametrize(
    ("deleted", "scaled"),
    [("Retain", "Retain"), ("Delete", "Retain"), ("Retain", "Delete"), ("Delete", "Delete")],
)
async def test_claims_are_made_and_go_as_the_policy_says(deleted: str, scaled: str) -> None:
    async with world() as w:
        mounted = template("db", "db:1")
        mount = {"name": "data", "mountPath": "/data"}
        mounted["spec"]["containers"][0]["volumeMounts"] = [mount]
        body = stateful_set(
            replicas=2,
            template=mounted,
            volumeClaimTemplates=[claim_template()],
            persistentVolumeClaimRetentionPolicy={"whenDeleted": deleted, "whenScaled": scaled},
        )
        await w.client.create(STATEFUL_SETS, body, "default")
        await complete(w, 2)
        claims = w.cache("persistentvolumeclaims")
        assert names(claims) == ["data-db-0", "data-db-1"]
        pod = await w.client.get(PODS, "db-1", "default")
        assert pod["spec"]["volumes"][0] == {
            "name": "data",
            "persistentVolumeClaim": {"claimName": "data-db-1"},
        }
        assert cached(claims, "data-db-1")["metadata"]["labels"] == {"app": "db"}
        await settled(w)
        text = "create Claim data-db-1 Pod db-1 in StatefulSet db success"
        assert f"SuccessfulCreate: {text}" in await w.events()
        await patch(w, {"replicas": 1})
        await complete(w, 1)
        left = ["data-db-0"] if scaled == "Delete" else ["data-db-0", "data-db-1"]
        await w.until(lambda: names(claims) == left)
        await w.client.delete(STATEFUL_SETS, "db", "default")
        left = [] if deleted == "Delete" else left
        await w.until(lambda: len(w.cache("pods")) == 0)
        await w.until(lambda: names(claims) == left)
        await settled(w)
        assert names(claims) == left


async def test_the_policy_may_change_and_claims_of_others_are_left_alone() -> None:
    async with world() as w:
        body = stateful_set(replicas=1, volumeClaimTemplates=[claim_template()])
        await w.client.create(STATEFUL_SETS, body, "default")
        found = await complete(w, 1)
        claims = w.cache("persistentvolumeclaims")
        assert not owners_of(claims, "data-db-0")
        await patch(w, {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}})
        await w.until(lambda: owners_of(claims, "data-db-0"))
        assert owners_of(claims, "data-db-0") == [
            {
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "name": "db",
                "uid": found["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
        await patch(w, {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}})
        await w.until(lambda: not owners_of(claims, "data-db-0"))


async def test_a_pod_waits_for_a_claim_that_goes() -> None:
    async with world() as w:
        body = {**claim_template(), "apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        body["metadata"] = {"name": "data-db-0", "namespace": "default", "finalizers": ["x.y/z"]}
        made = await w.client.create(CLAIMS, body, "default")
        await w.client.delete(CLAIMS, "data-db-0", "default")
        given = stateful_set(replicas=1, volumeClaimTemplates=[claim_template()])
        await w.client.create(STATEFUL_SETS, given, "default")
        events = w.cache("events")
        text = "create Pod db-0 in StatefulSet db failed error: pvc data-db-0 is being deleted"
        await w.until(lambda: any(item["message"] == text for item in events.list()))
        with pytest.raises(NotFound):
            await w.client.get(PODS, "db-0", "default")
        await w.client.patch(CLAIMS, "data-db-0", {"metadata": {"finalizers": None}}, "default")
        await complete(w, 1)
        claim = await w.client.get(CLAIMS, "data-db-0", "default")
        assert claim["metadata"]["uid"] != made["metadata"]["uid"]


async def test_a_set_tells_prometheus_of_its_rollout() -> None:
    async with world() as w:
        await w.client.create(STATEFUL_SETS, stateful_set(replicas=1), "default")
        await complete(w, 1)
        await settled(w)
        labels = 'statefulset_namespace="default",statefulset_name="db"'
        policy = 'pod_management_policy="OrderedReady"'
        told = w.controllers.metrics()
        prefix = "statefulset_controller_statefulset"
        assert f"{prefix}_max_unavailable{{{labels},{policy}}} 1" in told
        assert f"{prefix}_unavailable_replicas{{{labels},{policy}}} 0" in told
