"""The scheduler's fast choices are the definition's at the size of a real cluster.

A random cluster is filled pod by pod: templates of every sort (plain, spread, near and apart, with
ports, tolerations, preferences, images), pods that leave, nodes that come, go and are labelled. For
each pod the definition (`verdict.choose`: one node after the other) and the fast way (`shapes`,
`columns`) are asked, and have to say the same node.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from sampan.scheduler.guest import Guest, guest_of
from sampan.scheduler.nodes import Nodes, NodeState
from sampan.scheduler.shapes import Shapes
from sampan.scheduler.verdict import choose
from tests.kit.trust import SLICE, size

PODS = size(240)
PODS_PER_NODE = 6
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
APPS = ("a", "b", "c")
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

pytestmark = pytest.mark.trust


def node(dice: random.Random, name: str) -> dict[str, Any]:
    taints = [{"key": "gpu", "effect": "NoSchedule"}] if dice.random() < 0.1 else []
    if dice.random() < 0.1:
        taints.append({"key": "old", "effect": "PreferNoSchedule"})
    labels = {HOST: name, "disk": dice.choice(["ssd", "hdd"])}
    if dice.random() < 0.95:
        labels[ZONE] = f"zone-{dice.randrange(5)}"
    images = [{"names": [f"app:{dice.randrange(4)}"], "sizeBytes": 300 << 20}]
    room = {"cpu": dice.choice(["2", "4", "8"]), "memory": "16Gi", "pods": "30"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": dice.random() < 0.02},
        "status": {"allocatable": room, "images": images if dice.random() < 0.3 else []},
    }


def term(dice: random.Random) -> dict[str, Any]:
    chosen = {"matchLabels": {"app": dice.choice(APPS)}}
    return {"labelSelector": chosen, "topologyKey": dice.choice([HOST, ZONE, ZONE])}


def near(dice: random.Random) -> dict[str, Any]:
    if dice.random() < 0.5:
        return {REQUIRED: [term(dice)]}
    return {PREFERRED: [{"weight": dice.randint(1, 100), "podAffinityTerm": term(dice)}]}


def spread(dice: random.Random) -> dict[str, Any]:
    return {
        "maxSkew": dice.randint(1, 5),
        "topologyKey": dice.choice([HOST, ZONE]),
        "whenUnsatisfiable": dice.choice(["DoNotSchedule", "ScheduleAnyway"]),
        "labelSelector": {"matchLabels": {"app": dice.choice(APPS)}},
        **({"nodeTaintsPolicy": "Honor"} if dice.random() < 0.3 else {}),
    }


def template(dice: random.Random) -> dict[str, Any]:
    """What the pods of one workload are like."""
    spec: dict[str, Any] = {}
    container: dict[str, Any] = {
        "image": f"app:{dice.randrange(4)}",
        "resources": {"requests": {"cpu": f"{dice.choice([50, 100, 300, 700])}m"}},
    }
    kind = dice.randrange(8)
    if kind == 0:
        spec["topologySpreadConstraints"] = [spread(dice) for _ in range(dice.randint(1, 2))]
    elif kind == 1:
        spec["affinity"] = {"podAffinity": near(dice)}
    elif kind == 2:
        spec["affinity"] = {"podAntiAffinity": near(dice)}
    elif kind == 3:
        container["ports"] = [{"hostPort": dice.randrange(8000, 8003), "protocol": "TCP"}]
    elif kind == 4:
        spec["tolerations"] = [{"operator": "Exists"}]
        spec["nodeSelector"] = {"disk": dice.choice(["ssd", "hdd"])}
    spec["containers"] = [container]
    return {"labels": {"app": dice.choice(APPS)}, "spec": spec}


class Filling:
    """One cluster, asked twice each time."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.nodes = Nodes()
        self.nodes.set_namespace("default", {})
        self.shapes = Shapes(self.nodes)
        self.templates = [template(self.dice) for _ in range(40)]
        self.compared = 0
        for number in range(max(10, PODS // PODS_PER_NODE)):
            self.nodes.set_node(node(self.dice, f"n{number:04}"))

    def fill(self) -> None:
        for number in range(PODS):
            self.step(number)

    def step(self, number: int) -> None:
        dice, nodes = self.dice, self.nodes
        fate = dice.random()
        if fate < 0.002:
            nodes.remove_node(dice.choice([*nodes.by_name]))
        elif fate < 0.006:
            nodes.set_node(node(dice, f"n{dice.randrange(len(nodes.by_name)):04}"))
        elif fate < 0.05 and number:
            nodes.displace(str(dice.randrange(number)))
        found = self.place(number, dice.choice(self.templates))
        self.compared += found is not None

    def place(self, number: int, made: dict[str, Any]) -> NodeState | None:
        meta = {"uid": str(number), "namespace": "default", "name": f"p{number}"}
        guest: Guest = guest_of({"metadata": {**meta, "labels": made["labels"]}, **made})
        expected, found = choose(guest, self.nodes), self.shapes.best(guest)
        assert (found and found.name) == (expected and expected.name), (number, made)
        if found is not None:
            self.nodes.place(guest, found.name)
        return found


def test_fast_choices_are_the_definitions() -> None:
    filling = Filling(SLICE)
    filling.fill()
    assert filling.compared > PODS / 2, "most pods fit somewhere"


def test_a_difference_would_be_seen() -> None:
    """The negative control: a scheduler that forgets what a pod takes."""
    filling = Filling(SLICE)
    filling.nodes._changed = lambda name: None  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        filling.fill()
