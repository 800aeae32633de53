"""The fast choice is the definition's choice, whatever happened before."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.scheduler.demand import demand_of
from sampan.scheduler.nodes import Nodes
from sampan.scheduler.shapes import Shapes
from sampan.scheduler.verdict import choose

NODE_NAMES = st.sampled_from(["n1", "n2", "n3", "n4"])
TAINTS = st.lists(
    st.builds(
        lambda key, effect: {"key": key, "effect": effect},
        st.sampled_from(["a", "b"]),
        st.sampled_from(["NoSchedule", "PreferNoSchedule"]),
    ),
    max_size=2,
)
NODES = st.builds(
    lambda name, cpu, zone, taints, off: {
        "metadata": {"name": name, "labels": {"zone": zone}},
        "spec": {"taints": taints, "unschedulable": off},
        "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "5"}},
    },
    NODE_NAMES,
    st.sampled_from(["1", "2", "500m"]),
    st.sampled_from(["x", "y"]),
    TAINTS,
    st.booleans(),
)


def pod(cpu: str, zone: str, tolerate: bool, port: int) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "containers": [
            {
                "resources": {"requests": {"cpu": cpu}},
                "ports": [{"containerPort": 80, "hostPort": port}] if port else [],
            }
        ]
    }
    if zone:
        spec["nodeSelector"] = {"zone": zone}
    if tolerate:
        spec["tolerations"] = [{"operator": "Exists"}]
    return {"spec": spec}


PODS = st.builds(
    pod,
    st.sampled_from(["100m", "600m"]),
    st.sampled_from(["", "x"]),
    st.booleans(),
    st.sampled_from([0, 0, 8080]),
)
STEPS = st.one_of(
    st.tuples(st.just("node"), NODES),
    st.tuples(st.just("remove"), NODE_NAMES),
    st.tuples(st.just("pod"), PODS),
    st.tuples(st.just("end"), st.integers(0, 9)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_shapes_choose_as_the_definition(steps: list[tuple[str, Any]]) -> None:
    nodes = Nodes()
    shapes = Shapes(nodes)
    for number, (verb, what) in enumerate(steps):
        if verb == "node":
            nodes.set_node(what)
        elif verb == "remove":
            nodes.remove_node(what)
        elif verb == "end":
            nodes.displace(str(what))
        else:
            demand = demand_of(what)
            expected = choose(demand, nodes.by_name.values())
            found = shapes.best(demand)
            assert (found.name if found else None) == (expected.name if expected else None)
            if found:
                nodes.place(str(number), found.name, demand)


def test_what_a_node_gave_comes_back() -> None:
    nodes = Nodes()
    demand = demand_of(pod("600m", "", False, 8080))
    nodes.place("early", "n1", demand)
    nodes.set_node(
        {
            "metadata": {"name": "n1"},
            "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "9"}},
        }
    )
    assert Shapes(nodes).best(demand) is None
    nodes.displace("early")
    assert Shapes(nodes).best(demand) is not None
    state = nodes.by_name["n1"]
    assert (state.used, state.ports, state.pods, state.scored_cpu) == ({"cpu": 0}, {}, {}, 0)
