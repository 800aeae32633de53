"""The fast choice is the definition's choice, whatever happened before."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.scheduler.configuration import constraints_of, profiles_of
from sampan.scheduler.guest import guest_of
from sampan.scheduler.nodes import Nodes
from sampan.scheduler.profile import DEFAULT, Profile
from sampan.scheduler.shapes import Shapes
from sampan.scheduler.verdict import choose

NODE_NAMES = st.sampled_from(["n1", "n2", "n3", "n4", "n5"])
TAINTS = st.lists(
    st.builds(
        lambda key, effect: {"key": key, "effect": effect},
        st.sampled_from(["a", "b"]),
        st.sampled_from(["NoSchedule", "PreferNoSchedule"]),
    ),
    max_size=2,
)


def node(
    name: str, cpu: str, zone: str, taints: list[Any], off: bool, images: list[str]
) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name} | ({"zone": zone} if zone else {})
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": off},
        "status": {
            "allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "5"},
            "images": [{"names": [item], "sizeBytes": 400 << 20} for item in images],
        },
    }


NODES = st.builds(
    node,
    NODE_NAMES,
    st.sampled_from(["1", "2", "500m"]),
    st.sampled_from(["x", "y", "y", ""]),
    st.one_of(st.just([]), TAINTS),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([[], [], ["web:1"], ["web:1", "web:2"]]),
)
KEYS = st.sampled_from(["zone", "kubernetes.io/hostname"])
SELECTORS = st.sampled_from(
    [
        {"matchLabels": {"app": "a"}},
        {"matchLabels": {"app": "b"}},
        {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
        {},
        None,
    ]
)


def present(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


TERMS = st.builds(
    lambda key, selector, names, wide: present(
        topologyKey=key, labelSelector=selector, namespaces=names, namespaceSelector=wide
    ),
    KEYS,
    SELECTORS,
    st.sampled_from([None, None, ["other"]]),
    st.sampled_from([None, None, {}, {"matchLabels": {"team": "t"}}]),
)
WEIGHTED = st.builds(
    lambda weight, term: {"weight": weight, "podAffinityTerm": term}, st.integers(1, 100), TERMS
)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
RULES = st.one_of(
    st.none(),
    st.builds(
        lambda required, preferred: {REQUIRED: required, PREFERRED: preferred},
        st.lists(TERMS, max_size=2),
        st.lists(WEIGHTED, max_size=2),
    ),
)
CONSTRAINTS = st.builds(
    lambda skew, key, action, rest, selector: {
        "maxSkew": skew,
        "topologyKey": key,
        "whenUnsatisfiable": action,
        "labelSelector": selector,
        **rest,
    },
    st.integers(1, 2),
    KEYS,
    st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
    st.sampled_from(
        [{}, {"minDomains": 3}, {"nodeAffinityPolicy": "Ignore"}, {"nodeTaintsPolicy": "Honor"}]
    ),
    SELECTORS,
)


def pod(cpu: str, zone: str, tolerate: bool, port: int, priority: int = 0) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "containers": [
            {
                "image": "web:1",
                "resources": {"requests": {"cpu": cpu}},
                "ports": [{"containerPort": 80, "hostPort": port}] if port else [],
            }
        ]
    }
    if priority:
        spec["priority"] = priority
    if zone:
        spec["nodeSelector"] = {"zone": zone}
    if tolerate:
        spec["tolerations"] = [{"operator": "Exists"}]
    return {"metadata": {"namespace": "default"}, "spec": spec}


PODS = st.builds(
    pod,
    st.sampled_from(["100m", "600m"]),
    st.sampled_from(["", "", "x"]),
    st.booleans(),
    st.sampled_from([0, 0, 8080]),
    st.sampled_from([0, 0, 10]),
)


def relate(
    plain: dict[str, Any], who: tuple[str, str], near: Any, far: Any, spread: list[Any]
) -> dict[str, Any]:
    namespace, app = who
    spec = plain["spec"] | {"affinity": present(podAffinity=near, podAntiAffinity=far)}
    meta = {"namespace": namespace, "labels": {"app": app} if app else {}}
    return {"metadata": meta, "spec": spec | {"topologySpreadConstraints": spread}}


WHO = st.tuples(st.sampled_from(["default", "other"]), st.sampled_from(["a", "b", ""]))
RELATED = st.builds(relate, PODS, WHO, RULES, RULES, st.lists(CONSTRAINTS, max_size=2))
STEPS = st.one_of(
    st.tuples(st.just("node"), NODES),
    st.tuples(st.just("node"), NODES),
    st.tuples(st.just("remove"), NODE_NAMES),
    st.tuples(st.just("pod"), PODS),
    st.tuples(st.just("pod"), RELATED),
    st.tuples(st.just("pod"), RELATED),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    st.tuples(st.just("nominate"), st.tuples(NODE_NAMES, RELATED)),
    st.tuples(st.just("packed"), RELATED),
    st.tuples(st.just("spread"), st.tuples(RELATED, SELECTORS)),
    st.tuples(st.just("label"), st.sampled_from([{}, {"team": "t"}])),
)


PACKED = profiles_of(
    {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "profiles": [
            {
                "schedulerName": "packed",
                "plugins": {
                    "score": {"enabled": [{"name": "InterPodAffinity", "weight": 5}]},
                    "filter": {"disabled": [{"name": "NodePorts"}]},
                },
                "pluginConfig": [
                    {"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 60}},
                    {
                        "name": "NodeResourcesFit",
                        "args": {"scoringStrategy": {"type": "MostAllocated"}},
                    },
                    {
                        "name": "PodTopologySpread",
                        "args": {
                            "defaultingType": "List",
                            "defaultConstraints": [
                                {
                                    "topologyKey": "zone",
                                    "maxSkew": 2,
                                    "whenUnsatisfiable": "ScheduleAnyway",
                                }
                            ],
                        },
                    },
                ],
            }
        ],
    }
)["packed"]


class Twins:
    """One cluster, asked twice each time: the definition, and the fast choice."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.shapes = Shapes(self.nodes)
        self.pods: dict[str, Any] = {}

    def take(self, number: int, verb: str, what: Any) -> None:
        nodes = self.nodes
        if verb == "node":
            nodes.set_node(what)
        elif verb == "remove":
            nodes.remove_node(what)
        elif verb == "end":
            nodes.displace(str(what))
        elif verb == "leave":
            home = nodes.home(str(what))
            if home is not None:
                leaving = guest_of(self.pods[str(what)])
                leaving.leaving = True
                nodes.place(leaving, home)
        elif verb == "label":
            nodes.set_namespace("other", what)
            self.shapes.namespaces_changed()
        elif verb == "nominate":
            name, other = what
            other["metadata"]["uid"] = f"waiting{number}"
            nodes.nominate(guest_of(other), name)
        elif verb == "packed":
            self.schedule(str(number), what, PACKED)
        elif verb == "spread":
            self.schedule(str(number), what[0], PACKED, what[1])
        else:
            self.schedule(str(number), what)

    def schedule(
        self, uid: str, what: Any, profile: Profile = DEFAULT, default: Any = None
    ) -> None:
        what["metadata"]["uid"] = uid
        self.pods[uid] = what
        guest = guest_of(what, profile)
        if default and not guest.soft:
            guest.soft = constraints_of(profile.defaults, default)
        expected = choose(guest, self.nodes)
        found = self.shapes.best(guest)
        assert (found.name if found else None) == (expected.name if expected else None)
        if found:
            self.nodes.place(guest, found.name)


@settings(max_examples=120, deadline=None)
@given(st.lists(NODES, max_size=4), st.lists(STEPS, max_size=25))
def test_shapes_choose_as_the_definition(first: list[Any], steps: list[tuple[str, Any]]) -> None:
    twins = Twins()

    for item in first:
        twins.nodes.set_node(item)
    for number, (verb, what) in enumerate(steps):
        twins.take(number, verb, what)


def test_what_a_node_gave_comes_back() -> None:
    nodes = Nodes()
    guest = guest_of(pod("600m", "", False, 8080))
    guest.uid = "early"
    nodes.place(guest, "n1")
    nodes.set_node(
        {
            "metadata": {"name": "n1"},
            "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "9"}},
        }
    )
    assert Shapes(nodes).best(guest) is None
    nodes.displace("early")
    assert Shapes(nodes).best(guest) is not None
    state = nodes.by_name["n1"]
    assert (state.used, state.ports, state.pods, state.scored_cpu) == ({"cpu": 0}, {}, {}, 0)


WISHES = st.builds(
    relate,
    st.builds(pod, st.sampled_from(["100m", "600m"]), st.just(""), st.just(False), st.just(0)),
    st.tuples(st.just("default"), st.sampled_from(["a", "b"])),
    st.builds(lambda items: {PREFERRED: items}, st.lists(WEIGHTED, max_size=2)),
    st.builds(lambda items: {PREFERRED: items}, st.lists(WEIGHTED, max_size=1)),
    st.lists(CONSTRAINTS.map(lambda item: item | {"whenUnsatisfiable": "ScheduleAnyway"})),
)
LARGE = st.builds(
    lambda name, zone, images: node(name, "8", zone, [], False, images),
    NODE_NAMES,
    st.sampled_from(["x", "y", ""]),
    st.sampled_from([[], ["web:1"]]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("pod"), WISHES),
            st.tuples(st.just("pod"), WISHES),
            st.tuples(st.just("pod"), PODS),
            st.tuples(st.just("node"), LARGE),
            st.tuples(st.just("nominate"), st.tuples(NODE_NAMES, WISHES)),
        ),
        min_size=8,
        max_size=25,
    )
)
def test_wishes_are_weighed_as_the_definition_does(steps: list[tuple[str, Any]]) -> None:
    """Where everything fits, scores alone decide."""
    twins = Twins()
    for number, zone in enumerate(["x", "x", "y", "y", ""]):
        name = f"n{number + 1}"
        twins.nodes.set_node(node(name, "2" if number % 2 else "8", zone, [], False, []))
    for number, (verb, what) in enumerate(steps):
        twins.take(number, verb, what)


def test_numpy_is_loaded_by_those_who_need_it() -> None:
    """It is 17 MB and a tenth of a second of boot."""
    text = """
import sys
import sampan.scheduler.run
from sampan.scheduler.guest import guest_of
from sampan.scheduler.nodes import Nodes
from sampan.scheduler.shapes import Shapes
nodes = Nodes()
for name in "ab":
    allocatable = {"cpu": "1", "pods": "9"}
    nodes.set_node({"metadata": {"name": name}, "status": {"allocatable": allocatable}})
assert Shapes(nodes).best(guest_of({"metadata": {}, "spec": {"containers": [{}]}}))
assert "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)
