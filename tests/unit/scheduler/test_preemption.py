"""Who must go: no more than is needed, those whom it hurts least, budgets first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.scheduler.failing import Failing
from sampan.scheduler.guest import Guest, guest_of
from sampan.scheduler.nodes import Nodes
from sampan.scheduler.preemption import Plan, Surroundings, plan, split_by_budgets
from sampan.scheduler.verdict import judge, prepare, verdicts_of

from .test_shapes import NODES, RELATED


def node(name: str, cpu: str = "2") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10"}},
    }


def guest(name: str, cpu: str, priority: int, app: str = "") -> Guest:
    return guest_of(
        {
            "metadata": {
                "uid": name,
                "name": name,
                "namespace": "d",
                "labels": {"app": app} if app else {},
            },
            "spec": {
                "priority": priority,
                "containers": [{"resources": {"requests": {"cpu": cpu}}}],
            },
        }
    )


def budget(app: str, allowed: int) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "d", "name": app},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed},
    }


def attempt(nodes: Nodes, who: Guest, around: Surroundings | None = None) -> Plan:
    states = prepare(who, nodes)
    return plan(who, nodes, verdicts_of(who, nodes, states), states, around or Surroundings())


# (pods by node: name, cpu, priority, app), budgets, expected node and victims
CASES: dict[str, tuple[dict[str, Any], list[Any], str, list[str]]] = {
    "just who is needed": (
        {"a": [("x", "1500m", 1, ""), ("y", "400m", 1, "")]},
        [],
        "a",
        ["x"],
    ),
    "the less important": (
        {"a": [("x", "1500m", 5, "")], "b": [("y", "1500m", 4, "")]},
        [],
        "b",
        ["y"],
    ),
    "no budget is violated for a lesser priority": (
        {"a": [("x", "1500m", 1, "kept")], "b": [("y", "1500m", 4, "")]},
        [budget("kept", 0)],
        "b",
        ["y"],
    ),
    "a budget that allows it is no obstacle": (
        {"a": [("x", "1500m", 1, "kept")], "b": [("y", "1500m", 4, "")]},
        [budget("kept", 1)],
        "a",
        ["x"],
    ),
    "fewer pods": (
        {
            "a": [("x", "1", 1, ""), ("y", "1", 1, "")],
            "b": [("z", "1900m", 1, "")],
        },
        [],
        "b",
        ["z"],
    ),
    "nobody as important": ({"a": [("x", "1500m", 10, "")]}, [], "", []),
}


@pytest.mark.parametrize("case", CASES)
def test_choice(case: str) -> None:
    pods, budgets, expected, victims = CASES[case]
    nodes = Nodes()
    for name, there in pods.items():
        nodes.set_node(node(name))
        for item in there:
            nodes.place(guest(*item), name)
    found = attempt(nodes, guest("new", "1500m", 10), Surroundings(budgets))
    assert (found.node, sorted(item.name for item in found.victims)) == (expected, victims)


def test_of_equals_the_one_that_started_last() -> None:
    nodes = Nodes()
    for name in ("a", "b"):
        nodes.set_node(node(name))
        nodes.place(guest(f"on-{name}", "2", 1), name)
    started = {"on-a": "2026-01-01T00:00:00Z", "on-b": "2026-02-01T00:00:00Z"}
    around = Surroundings((), lambda item: started[item.name])
    assert attempt(nodes, guest("new", "1", 10), around).node == "b"


def test_a_budget_is_used_up() -> None:
    pods = [guest(f"p{number}", "1", 1, "kept") for number in range(3)]
    protected, free = split_by_budgets(pods, [budget("kept", 1)])
    assert ([item.name for item in protected], [item.name for item in free]) == (
        ["p1", "p2"],
        ["p0"],
    )


def test_who_has_sent_others_away_waits_for_them() -> None:
    nodes = Nodes()
    nodes.set_node(node("a"))
    old = guest("old", "2", 1)
    nodes.place(old, "a")
    failing = Failing(nodes, Surroundings)
    new = guest("new", "2", 10)
    assert failing.look(new).plan.node == "a"
    nodes.nominate(new, "a")
    leaving = guest("old", "2", 1)
    leaving.leaving = True
    nodes.place(leaving, "a")
    found = failing.look(new)
    assert (found.plan.node, found.waits) == ("", True)
    assert found.text.endswith(
        "preemption: not eligible due to a terminating pod on the nominated node."
    )


def test_what_is_known_of_one_is_not_computed_for_its_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = Nodes()
    nodes.set_node(node("a"))
    failing = Failing(nodes, Surroundings)
    looks = []
    original = failing._look
    monkeypatch.setattr(Failing, "_look", lambda self, who: (looks.append(who), original(who))[1])
    for number in range(3):
        failing.look(guest(f"p{number}", "9", 0))
    assert len(looks) == 1
    nodes.set_node(node("b", "1"))
    failing.look(guest("p3", "9", 0))
    assert len(looks) == 2


@settings(max_examples=100, deadline=None)
@given(st.lists(NODES, min_size=1, max_size=3), st.lists(RELATED, max_size=10), RELATED)
def test_without_the_victims_it_fits_and_with_any_of_them_it_does_not(
    nodes_given: list[Any], placed: list[Any], new: Any
) -> None:
    nodes = Nodes()
    for item in nodes_given:
        nodes.set_node(item)
    names = sorted(nodes.by_name)
    for number, item in enumerate(placed):
        item["metadata"] |= {"uid": f"p{number}", "name": f"p{number}"}
        nodes.place(guest_of(item), names[number % len(names)])
    new["metadata"] |= {"uid": "new", "name": "new"}
    new["spec"]["priority"] = 100
    who = guest_of(new)
    found = attempt(nodes, who)
    for victim in found.victims:
        nodes.displace(victim.uid)
    if found.node:
        target = nodes.by_name[found.node]
        assert judge(who, target, prepare(who, nodes), nodes) is None
        # Given back last of all, in the order they were asked, none of them found room.
        last = found.victims[-1]
        nodes.place(last, found.node)
        target = nodes.by_name[found.node]
        assert judge(who, target, prepare(who, nodes), nodes) is not None
