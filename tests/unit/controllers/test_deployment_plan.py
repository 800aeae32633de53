"""Rollouts through `plan`, as transcripts: a model plays the ReplicaSets and the nodes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.controllers.deployment_plan import (
    Create,
    Delete,
    Observed,
    Plan,
    Resize,
    Step,
    plan,
    same_template,
    template_hash,
)
from sampan.controllers.deployment_sizes import REVISION, REVISION_HISTORY, Set, proportional
from tests.kit.transcript import hold

START_S = 1_700_000_000.0


def make_deployment(replicas: int = 10, **spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template("1"),
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
            },
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": 600,
            **spec,
        },
        "status": {},
    }


def template(image: str) -> Object:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


class Model:
    """Applies plans at once; pods become available one tick after their set has made them."""

    def __init__(self, deployment: Object) -> None:
        self.deployment = deployment
        self.sets: dict[str, Object] = {}
        self.images: dict[str, str] = {}
        self.now_s = START_S
        self.lines: list[str] = []
        self.broken: Callable[[str], bool] = lambda image: False
        """Images whose pods never become available."""

    def note(self, line: str) -> None:
        self.lines.append(line)

    def change(self, what: str, **spec: Any) -> None:
        self.deployment = copy.deepcopy(self.deployment)
        self.deployment["spec"] |= spec
        self.deployment["metadata"]["generation"] += 1
        self.note(f"-- {what}")

    def sync(self) -> Plan:
        before = copy.deepcopy((self.deployment, self.sets))
        found = plan(self.observed(), self.now_s)
        assert before == (self.deployment, self.sets), "plan changed what it was given"
        return found

    def observed(self) -> Observed:
        new = [
            item
            for item in self.sets.values()
            if same_template(item["spec"]["template"], self.deployment["spec"]["template"])
        ]
        old = [item for item in self.sets.values() if item not in new]
        return Observed(
            self.deployment,
            [*self.sets.values()],
            any(item["status"].get("replicas", 0) for item in old),
        )

    def apply(self, found: Plan) -> None:
        for step in found.steps:
            self.apply_step(step)
        meta = self.deployment["metadata"]
        if found.revision:
            annotations = {**meta.get("annotations", {}), REVISION: found.revision}
            meta = {**meta, "annotations": annotations}
        self.deployment = {**self.deployment, "metadata": meta, "status": found.status}

    def apply_step(self, step: Step) -> None:
        body = copy.deepcopy(step.body)
        meta = body["metadata"]
        match step:
            case Create():
                image = body["spec"]["template"]["spec"]["containers"][0]["image"]
                self.images[meta["name"]] = image
                meta |= {"uid": meta["name"], "generation": 1, "creationTimestamp": self.stamp()}
                body["status"] = {"replicas": 0}
                self.note(f"   create {image} with {body['spec']['replicas']}")
                self.sets[meta["name"]] = body
            case Resize(before=before, after=after):
                if before != after:
                    self.note(f"   scale {self.images[meta['name']]} from {before} to {after}")
                self.sets[meta["name"]] = body
            case Delete():
                self.note(f"   delete {self.images[meta['name']]}")
                del self.sets[meta["name"]]

    def stamp(self) -> str:
        return f"2023-11-14T22:13:{20 + len(self.images):02}Z"

    def tick(self) -> None:
        """The sets make and remove pods; what was made before becomes available."""
        self.now_s += 1
        for name, item in self.sets.items():
            old, size = item["status"], item["spec"]["replicas"]
            available = 0 if self.broken(self.images[name]) else min(old["replicas"], size)
            item["status"] = {
                "replicas": size,
                "readyReplicas": available,
                "availableReplicas": available,
                "observedGeneration": item["metadata"]["generation"],
            }

    def run(self, limit: int = 30) -> None:
        """Sync and tick until nothing changes."""
        for _ in range(limit):
            before = copy.deepcopy((self.deployment, self.sets))
            self.apply(self.sync())
            self.tick()
            self.note(self.state())
            if before == (self.deployment, self.sets):
                return
        raise AssertionError("the rollout does not end")

    def state(self) -> str:
        sets = [
            f"{self.images[name]}:{item['spec']['replicas']}/{item['status']['availableReplicas']}"
            for name, item in self.sets.items()
        ]
        status = self.deployment["status"]
        progress = [
            f"{item['type']}={item['status']} {item['reason']}" for item in status["conditions"]
        ]
        return f"{' '.join(sets)} | {', '.join(progress)}"

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def test_rolling_update(request: pytest.FixtureRequest) -> None:
    model = Model(make_deployment())
    model.run()
    model.change("image 2", template=template("2"))
    model.run()
    model.change("image 1 again", template=template("1"))
    model.run()
    hold(request, "rolling_update", model.text())
    oldest = model.sets[next(iter(model.sets))]
    assert oldest["metadata"]["annotations"][REVISION] == "3"
    assert oldest["metadata"]["annotations"][REVISION_HISTORY] == "1"
    assert model.deployment["metadata"]["annotations"][REVISION] == "3"


def test_recreate(request: pytest.FixtureRequest) -> None:
    model = Model(make_deployment(3, strategy={"type": "Recreate"}))
    model.run()
    model.change("image 2", template=template("2"))
    model.run()
    hold(request, "recreate", model.text())


def test_scaled_and_paused_in_the_middle(request: pytest.FixtureRequest) -> None:
    model = Model(make_deployment())
    model.run()
    model.change("image 2", template=template("2"))
    model.apply(model.sync())
    model.tick()
    model.note(model.state())
    model.change("pause, 20 replicas", paused=True, replicas=20)
    model.run()
    model.change("resume", paused=False)
    model.run()
    hold(request, "paused", model.text())


def test_a_broken_image_times_out_and_is_rolled_back(request: pytest.FixtureRequest) -> None:
    model = Model(make_deployment(4, progressDeadlineSeconds=10))
    model.broken = lambda image: image == "bad"
    model.run()
    model.change("image bad", template=template("bad"))
    model.run()
    wait_s = model.sync().again_s
    assert wait_s is not None
    model.note("-- the deadline passes")
    model.now_s += wait_s
    model.run()
    assert model.sync().again_s is None
    model.change("image 1 again", template=template("1"))
    model.run()
    hold(request, "deadline", model.text())


def test_history_is_trimmed(request: pytest.FixtureRequest) -> None:
    model = Model(make_deployment(1))
    for image in "12345":
        model.change(f"image {image}", template=template(image))
        model.run()
    hold(request, "history", model.text())
    assert sorted(model.images[name] for name in model.sets) == ["3", "4", "5"]


def test_a_settled_deployment_plans_nothing() -> None:
    model = Model(make_deployment())
    model.run()
    found = model.sync()
    assert (found.steps, found.revision, found.again_s) == ([], "", None)
    assert found.status == model.deployment["status"]


def test_never_below_or_above_the_bounds() -> None:
    for replicas in (1, 2, 3, 7, 10):
        for surge, unavailable in ((0, 1), (1, 0), ("25%", "25%"), ("100%", 0), (0, "100%")):
            rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
            strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
            model = Model(make_deployment(replicas, strategy=strategy))
            model.run()
            model.change("2", template=template("2"))
            for _ in range(60):
                model.apply(model.sync())
                sizes = [item["spec"]["replicas"] for item in model.sets.values()]
                alive = [item["status"].get("availableReplicas", 0) for item in model.sets.values()]
                kept = sum(min(pair) for pair in zip(sizes, alive, strict=True))
                spare = share(surge, replicas, up=True)
                missing = share(unavailable, replicas, up=False)
                assert sum(sizes) <= replicas + spare
                assert kept >= replicas - (missing or (1 if spare == 0 else 0))
                model.tick()
            assert sum(sizes) == replicas
            assert sizes[-1] == replicas


def share(value: int | str, total: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    part = int(value[:-1]) * total / 100
    return int(part + 0.999) if up else int(part)


def test_the_hash_is_stable() -> None:
    deployment = make_deployment()
    assert template_hash(deployment) == "6dcc49d5bf"
    empty = template("1")
    empty["spec"] |= {"volumes": [], "securityContext": {}}
    assert template_hash({**deployment, "spec": {"template": empty}}) == "6dcc49d5bf"
    collided = {**deployment, "status": {"collisionCount": 1}}
    assert template_hash(collided) != template_hash(deployment)


@pytest.mark.parametrize(
    ("sizes", "before", "replicas", "want"),
    [
        # Shares are rounded, the newer first; what is left goes to the largest.
        ([5, 5], 10, 15, [7, 8]),
        ([8, 2], 10, 5, [4, 1]),
        ([5, 3, 2], 10, 20, [10, 6, 4]),
        ([10, 3], 13, 0, [0, 0]),
    ],
)
def test_proportional_scaling(
    sizes: list[int], before: int, replicas: int, want: list[int]
) -> None:
    sets = [
        Set(
            {
                "metadata": {
                    "name": f"s{number}",
                    "creationTimestamp": f"2023-01-01T00:00:0{number}Z",
                    "annotations": {"deployment.kubernetes.io/max-replicas": str(before)},
                }
            },
            size,
        )
        for number, size in enumerate(sizes)
    ]
    rolling = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    found = proportional(make_deployment(replicas, strategy=rolling), sets)
    assert sum(found.values()) == replicas
    assert [found[f"s{number}"] for number in range(len(sizes))] == want
