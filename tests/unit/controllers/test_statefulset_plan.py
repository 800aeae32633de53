"""StatefulSets through `plan`, as transcripts: a model plays the server and the nodes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.api.times import format_time
from sampan.controllers.runtime.history import template_data
from sampan.controllers.statefulset_plan import (
    Create,
    Fail,
    MakeClaim,
    Mend,
    OwnClaim,
    Plan,
    Remove,
    Step,
    max_unavailable,
    plan,
)
from sampan.controllers.statefulset_pods import ordinal, revision_of
from sampan.controllers.statefulset_status import Observed
from tests.kit.transcript import Told, hold

START_S = 1_700_000_000.0


def make_set(replicas: int = 3, **spec: Any) -> Object:
    return {
        "metadata": {"name": "db", "namespace": "ns", "uid": "s", "generation": 1},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": template("1"),
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            **spec,
        },
        "status": {},
    }


def template(image: str) -> Object:
    return {
        "metadata": {"labels": {"app": "db"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


def claims() -> list[Object]:
    return [{"metadata": {"name": "data"}, "spec": {}}]


class Model(Told):
    """Applies plans at once; with each tick pods that were made run, and those that go are gone."""

    def __init__(self, owner: Object) -> None:
        super().__init__(owner)
        self.pods: dict[str, Object] = {}
        self.claims: dict[str, Object] = {}
        self.revisions: list[Object] = []
        self.now_s = START_S
        self.made = 0
        self.broken: Callable[[Object], bool] = lambda pod: False
        """Pods that never become ready."""

    def revision(self) -> Object:
        """The present template's, made if it is new."""
        image = self.owner["spec"]["template"]["spec"]["containers"][0]["image"]
        name = f"db-r{image}"
        for item in self.revisions:
            if item["metadata"]["name"] == name:
                return item
        body = {"metadata": {"name": name}, "data": template_data(self.owner["spec"]["template"])}
        self.revisions.append(body)
        return body

    def sync(self) -> Plan:
        update = self.revision()
        named = {item["metadata"]["name"]: item for item in self.revisions}
        current = named.get(self.owner["status"].get("currentRevision", ""), update)
        observed = Observed(self.owner, [*self.pods.values()], self.claims, current, update)
        before = copy.deepcopy(observed)
        found = plan(observed, self.now_s)
        assert before == observed, "plan changed what it was given"
        return found

    def apply(self, found: Plan) -> None:
        for step in found.steps():
            self.apply_step(step)
        self.owner = {**self.owner, "status": found.status}

    def apply_step(self, step: Step) -> None:
        self.made += 1
        match step:
            case Create(body=body):
                name = body["metadata"]["name"]
                assert name not in self.pods, "two of one identity"
                pod = copy.deepcopy(body)
                pod["metadata"]["uid"] = f"p{self.made}"
                pod["status"] = {"phase": "Pending"}
                self.pods[name] = pod
                self.note(f"   create {name} {image_of(pod)}")
            case Remove(pod=pod):
                name = pod["metadata"]["name"]
                assert not pod["metadata"].get("deletionTimestamp")
                self.pods[name]["metadata"]["deletionTimestamp"] = self.stamp()
                self.note(f"   delete {name} {image_of(pod)}")
            case MakeClaim(body=body):
                self.claims[body["metadata"]["name"]] = copy.deepcopy(body)
                self.note(f"   claim {body['metadata']['name']}")
            case OwnClaim(body=body):
                self.claims[body["metadata"]["name"]] = copy.deepcopy(body)
                owners = [item["kind"] for item in body["metadata"]["ownerReferences"]]
                self.note(f"   own {body['metadata']['name']} by {', '.join(owners) or 'nobody'}")
            case Mend(body=body):
                self.pods[body["metadata"]["name"]] = copy.deepcopy(body)
                self.note(f"   mend {body['metadata']['name']}")
            case Fail(pod=name, message=message):
                self.note(f"   fail {name}: {message}")

    def stamp(self) -> str:
        return format_time(self.now_s)

    def tick(self, seconds: float = 1) -> None:
        self.now_s += seconds
        for name, pod in [*self.pods.items()]:
            if pod["metadata"].get("deletionTimestamp"):
                del self.pods[name]
                for claim in [*self.claims.values()]:
                    # The garbage collector.
                    owners = claim["metadata"].get("ownerReferences") or []
                    if any(item["uid"] == pod["metadata"]["uid"] for item in owners):
                        del self.claims[claim["metadata"]["name"]]
            elif pod["status"]["phase"] == "Pending":
                ready = "False" if self.broken(pod) else "True"
                condition = {"type": "Ready", "status": ready, "lastTransitionTime": self.stamp()}
                pod["status"] = {"phase": "Running", "conditions": [condition]}

    def run(self, limit: int = 40) -> None:
        """Sync and tick until nothing changes."""
        for _ in range(limit):
            before = copy.deepcopy((self.owner, self.pods, self.claims))
            self.apply(self.sync())
            self.tick()
            if before == (self.owner, self.pods, self.claims):
                self.note(self.state())
                return
            self.check()
        raise AssertionError("the rollout does not end")

    def check(self) -> None:
        """Hooks of tests."""

    def state(self) -> str:
        pods = " ".join(
            f"{name}:{image_of(pod)}{'' if is_ready(pod) else '!'}"
            for name, pod in sorted(self.pods.items())
        )
        said = self.owner["status"]
        keys = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas")
        counts = "/".join(str(said.get(key, 0)) for key in keys)
        revisions = f"{said['currentRevision']} -> {said['updateRevision']}"
        return f"{pods} | {counts} {revisions}"


def image_of(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def is_ready(pod: Object) -> bool:
    return any(item["status"] == "True" for item in pod["status"].get("conditions") or ())


def test_ordered(request: pytest.FixtureRequest) -> None:
    model = Model(make_set())
    model.run()
    model.change("image 2", template=template("2"))
    model.run()
    model.change("one replica", replicas=1)
    model.run()
    model.change("two from 4 on", replicas=2, ordinals={"start": 4})
    model.run()
    hold(request, "sts_ordered", model.text())


def test_parallel(request: pytest.FixtureRequest) -> None:
    model = Model(make_set(5, podManagementPolicy="Parallel"))
    model.run()
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1, "maxUnavailable": "40%"}}
    model.change(
        "image 2, partition 1, two at once", template=template("2"), updateStrategy=rolling
    )
    model.run()
    model.change("two replicas", replicas=2)
    model.run()
    hold(request, "sts_parallel", model.text())


def test_a_broken_rollout_is_mended(request: pytest.FixtureRequest) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
    model = Model(make_set(4, podManagementPolicy="Parallel", updateStrategy=rolling))
    model.broken = lambda pod: image_of(pod) == "bad"
    model.run()
    model.change("image bad", template=template("bad"))
    model.run()
    model.change("image 3", template=template("3"))
    model.run()
    hold(request, "sts_mended", model.text())


def test_an_ordered_set_waits_for_what_is_broken(request: pytest.FixtureRequest) -> None:
    model = Model(make_set(3))
    model.broken = lambda pod: image_of(pod) == "bad"
    model.run()
    model.change("image bad", template=template("bad"))
    model.run()
    model.change("image 3", template=template("3"))
    model.run()
    model.note("-- somebody deletes the broken one")
    del model.pods["db-2"]
    model.run()
    hold(request, "sts_stuck", model.text())


def test_claims_follow_their_policy(request: pytest.FixtureRequest) -> None:
    model = Model(make_set(2, volumeClaimTemplates=claims()))
    model.run()
    keep = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    model.change("claims go with them", persistentVolumeClaimRetentionPolicy=keep)
    model.run()
    model.change("one replica", replicas=1)
    model.run()
    model.change("three replicas", replicas=3)
    model.run()
    model.note("-- a claim is being deleted while its pod is gone")
    del model.pods["db-2"]
    model.claims["data-db-2"]["metadata"]["deletionTimestamp"] = model.stamp()
    model.apply(model.sync())
    del model.claims["data-db-2"]
    model.run()
    keep = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    model.change("claims stay", persistentVolumeClaimRetentionPolicy=keep)
    model.run()
    hold(request, "sts_claims", model.text())


def test_min_ready_seconds_hold_the_next_up() -> None:
    model = Model(make_set(2, minReadySeconds=10))
    model.apply(model.sync())
    model.tick()
    found = model.sync()
    assert (list(found.steps()), found.again_s) == ([], 10)
    assert found.status["readyReplicas"] == 1
    assert found.status["availableReplicas"] == 0
    model.now_s += 10
    [step] = model.sync().steps()
    assert isinstance(step, Create)
    assert step.body["metadata"]["name"] == "db-1"


def test_a_pod_that_ended_is_deleted_and_made_again() -> None:
    for policy in ("OrderedReady", "Parallel"):
        for phase in ("Failed", "Succeeded"):
            model = Model(make_set(1, podManagementPolicy=policy))
            model.run()
            model.pods["db-0"]["status"] = {"phase": phase}
            first, second = model.sync(), None
            assert [type(step) for step in first.steps()] == [Remove]
            model.apply(first)
            second = model.sync()
            assert not list(second.steps())
            model.run()
            assert is_ready(model.pods["db-0"])


def test_the_set_that_goes_does_nothing() -> None:
    model = Model(make_set())
    model.run()
    model.owner["metadata"]["deletionTimestamp"] = model.stamp()
    model.owner["spec"]["replicas"] = 9
    assert not list(model.sync().steps())


def test_a_settled_set_plans_nothing() -> None:
    model = Model(make_set())
    model.run()
    found = model.sync()
    assert (list(found.steps()), found.again_s) == ([], None)
    assert found.status == model.owner["status"]
    assert found.status["currentRevision"] == found.status["updateRevision"] == "db-r1"


@pytest.mark.parametrize(
    ("name", "place"),
    [("db-0", 0), ("db-12", 12), ("db-01", -1), ("db-", -1), ("db-x", -1), ("other-0", -1),
     ("db-0-0", -1), ("db-2147483647", 2147483647), ("db-2147483648", -1)],
)  # fmt: skip
def test_ordinals(name: str, place: int) -> None:
    assert ordinal(make_set(), {"metadata": {"name": name}}) == place


@pytest.mark.parametrize(
    ("value", "replicas", "want"),
    [(None, 5, 1), (3, 5, 3), ("50%", 5, 2), ("1%", 5, 1), ("100%", 5, 5)],
)
def test_percents_of_unavailable_are_rounded_down(value: Any, replicas: int, want: int) -> None:
    rolling = {} if value is None else {"maxUnavailable": value}
    owner = make_set(replicas, updateStrategy={"type": "RollingUpdate", "rollingUpdate": rolling})
    assert max_unavailable(owner) == want


def test_never_more_unavailable_than_allowed() -> None:
    for policy in ("OrderedReady", "Parallel"):
        for limit in (1, 2, 5):
            rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": limit}}
            model = Model(make_set(5, podManagementPolicy=policy, updateStrategy=rolling))
            model.run()
            model.change("2", template=template("2"))
            for _ in range(40):
                model.apply(model.sync())
                alive = [
                    pod
                    for pod in model.pods.values()
                    if is_ready(pod) and not pod["metadata"].get("deletionTimestamp")
                ]
                assert len(alive) >= 5 - limit
                model.tick()
            assert {revision_of(pod) for pod in model.pods.values()} == {"db-r2"}
