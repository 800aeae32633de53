"""Profiles by KubeSchedulerConfiguration, and plugins of the user's."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from sampan.scheduler.configuration import backoff_of, profiles_of
from sampan.scheduler.failing import Failing
from sampan.scheduler.guest import guest_of
from sampan.scheduler.nodes import Nodes
from sampan.scheduler.preemption import Surroundings
from sampan.scheduler.profile import Profile
from sampan.scheduler.shapes import Shapes
from sampan.scheduler.verdict import choose


class Tier:
    """The user's own plugin: ten lines."""

    def __init__(self, label: str = "tier") -> None:
        self.label = label

    def reject(self, pod: Any, node: Any) -> str | None:
        wanted = (pod["metadata"].get("annotations") or {}).get("tier")
        has = node["metadata"]["labels"].get(self.label)
        return None if wanted in (None, has) else "node(s) were of another tier"

    def score(self, pod: Any, node: Any) -> float:
        return 100.0 if "best" in node["metadata"]["labels"] else 0.0


def configuration(**profile: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "profiles": [profile],
    }


def nodes_of(**labels: dict[str, str]) -> Nodes:
    nodes = Nodes()
    for name, found in labels.items():
        nodes.set_node(
            {
                "metadata": {"name": name, "labels": found},
                "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
            }
        )
    return nodes


def pod(cpu: str = "1", **meta: Any) -> dict[str, Any]:
    container = {"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}
    return {"metadata": {"uid": "u", **meta}, "spec": {"containers": [container]}}


def one(nodes: Nodes, profile: Profile, what: Any) -> str:
    """The node of both the definition and the fast choice."""
    guest = guest_of(what, profile)
    found, defined = Shapes(nodes).best(guest), choose(guest, nodes)
    assert found is defined
    return found.name if found else ""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("Tier", f"{__name__}:Tier", "sampan.scheduler")
    monkeypatch.setattr(EntryPoint, "load", lambda self: Tier)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: EntryPoints([point]))


def test_a_plugin_of_the_users_filters_and_scores(installed: None) -> None:
    profile = profiles_of(
        configuration(
            schedulerName="mine",
            plugins={"multiPoint": {"enabled": [{"name": "Tier", "weight": 9}]}},
            pluginConfig=[{"name": "Tier", "args": {"label": "level"}}],
        )
    )["mine"]
    nodes = nodes_of(a={"level": "gold"}, b={"level": "tin"}, c={"level": "tin", "best": ""})
    assert one(nodes, profile, pod()) == "c"
    assert one(nodes, profile, pod(annotations={"tier": "gold"})) == "a"
    assert one(nodes, Profile(), pod(annotations={"tier": "gold"})) == "a"
    nobody = guest_of(pod(annotations={"tier": "none"}), profile)
    text = Failing(nodes, Surroundings).look(nobody).text
    assert text.startswith("0/3 nodes are available: 3 node(s) were of another tier.")


def test_most_allocated_packs_and_least_allocated_spreads() -> None:
    nodes = nodes_of(a={}, b={})
    nodes.place(guest_of(pod(uid="first")), "b")
    strategy = {"scoringStrategy": {"type": "MostAllocated"}}
    packing = profiles_of(
        configuration(
            pluginConfig=[{"name": "NodeResourcesFit", "args": strategy}],
        )
    )["default-scheduler"]
    assert one(nodes, packing, pod()) == "b"
    assert one(nodes, Profile(), pod()) == "a"


def test_requested_to_capacity_follows_its_shape() -> None:
    nodes = nodes_of(a={}, b={})
    nodes.place(guest_of(pod(uid="first")), "b")
    shape = [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]
    strategy = {
        "type": "RequestedToCapacityRatio",
        "requestedToCapacityRatio": {"shape": shape},
        "resources": [{"name": "cpu", "weight": 3}],
    }
    args = {"name": "NodeResourcesFit", "args": {"scoringStrategy": strategy}}
    profile = profiles_of(configuration(pluginConfig=[args]))["default-scheduler"]
    assert one(nodes, profile, pod()) == "b"


def test_what_is_disabled_does_not_count() -> None:
    nodes = nodes_of(a={})
    profile = profiles_of(
        configuration(plugins={"filter": {"disabled": [{"name": "NodeResourcesFit"}]}})
    )["default-scheduler"]
    assert one(nodes, Profile(), pod("9")) == ""
    assert one(nodes, profile, pod("9")) == "a"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"apiVersion": "v1", "kind": "Pod"}, "expected a KubeSchedulerConfiguration"),
        (
            configuration(plugins={"score": {"enabled": [{"name": "Nobody"}]}}),
            "no plugin Nobody",
        ),
        (
            configuration(
                pluginConfig=[
                    {"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "Best"}}}
                ]
            ),
            "no scoring strategy Best",
        ),
        (
            configuration() | {"profiles": [{}, {}]},
            "two profiles named default-scheduler",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(given: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        profiles_of(given)


def test_resources_that_others_give_out_are_not_counted() -> None:
    asked = pod()
    asked["spec"]["containers"][0]["resources"]["requests"]["example.com/foo"] = "3"
    args = {"ignoredResources": ["example.com/foo"]}
    given = configuration(pluginConfig=[{"name": "NodeResourcesFit", "args": args}])
    nodes = nodes_of(a={})
    for profile, found in ((profiles_of(given), "a"), (profiles_of(None), "")):
        guest = guest_of(asked, profile["default-scheduler"])
        node = Shapes(nodes).best(guest)
        assert (node.name if node else "") == found
    group = configuration(
        pluginConfig=[{"name": "NodeResourcesFit", "args": {"ignoredResourceGroups": ["other"]}}]
    )
    assert Shapes(nodes).best(guest_of(asked, profiles_of(group)["default-scheduler"])) is None


def test_what_would_be_passed_over_is_refused() -> None:
    for given, why in (
        ({"podInitialBackoffSeconds": 0}, "above 0"),
        ({"podInitialBackoffSeconds": 5, "podMaxBackoffSeconds": 2}, "less than"),
        (configuration(pluginConfig=[
            {"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 7}}]), "is 1 here"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            profiles_of({**configuration(), **given})
    assert backoff_of({"podInitialBackoffSeconds": 2, "podMaxBackoffSeconds": 60}) == (2.0, 60.0)
    assert backoff_of(None) == (1.0, 10.0)
