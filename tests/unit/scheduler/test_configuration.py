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


def argued(**arguments: Any) -> dict[str, Any]:
    listed = [{"name": name, "args": args} for name, args in arguments.items()]
    return configuration(pluginConfig=listed)


def profile_of(given: dict[str, Any]) -> Profile:
    return profiles_of(given)["default-scheduler"]


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
        ({"podInitialBackoffSecond": 1}, 'unknown field "podInitialBackoffSecond"'),
        ({"percentageOfNodesToScore": 101}, "not in valid range"),
        (configuration(weight=1), r'unknown field "profiles\[0\].weight"'),
        (configuration(plugins={"bindd": {}}), r'unknown field "profiles\[0\].plugins.bindd"'),
        (argued(InterPodAffinity={"hardPodAffinityWeight": 101}), "not in valid range"),
        (argued(InterPodAffinity={"weight": 1}), "unknown field"),
        (argued(DefaultPreemption={"minCandidateNodesPercentage": 0,
                                   "minCandidateNodesAbsolute": 0}), "cannot be zero"),
        (argued(VolumeBinding={"bindTimeoutSeconds": -1}), "bindTimeoutSeconds"),
        (argued(DynamicResources={"bindingTimeout": "10ms"}), "at least 1 second"),
        (argued(NodeResourcesBalancedAllocation={"resources": [{"name": "cpu", "weight": 2}]}),
         "must be 1"),
        (argued(PodTopologySpread={"defaultConstraints": [{}]}), "are not empty"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            profiles_of({**configuration(), **given})
    assert backoff_of({"podInitialBackoffSeconds": 2, "podMaxBackoffSeconds": 60}) == (2.0, 60.0)
    assert backoff_of(None) == (1.0, 10.0)


POINTS: dict[str, tuple[dict[str, Any], bool, int]] = {
    "nothing is said": ({}, True, 2),
    "disabled": ({"filter": {"disabled": [{"name": "*"}]}}, False, 2),
    "one of all": ({"filter": {"disabled": [{"name": "*"}],
                               "enabled": [{"name": "InterPodAffinity"}]}}, True, 2),
    "everywhere": ({"multiPoint": {"disabled": [{"name": "InterPodAffinity"}]}}, False, 0),
    "everywhere but": ({"multiPoint": {"disabled": [{"name": "*"}]},
                        "score": {"enabled": [{"name": "InterPodAffinity", "weight": 7}]}},
                       False, 7),
    "both": ({"multiPoint": {"disabled": [{"name": "*"}],
                             "enabled": [{"name": "InterPodAffinity"}]}}, True, 2),
    "no scores": ({"score": {"disabled": [{"name": "InterPodAffinity"}]}}, True, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", POINTS)
def test_what_is_said_of_a_point_goes_before_what_is_said_of_all(name: str) -> None:
    plugins, filters, weight = POINTS[name]
    profile = profile_of(configuration(plugins=plugins))
    (found,) = [item for item in profile.relations if item.name == "InterPodAffinity"] or [None]
    assert (bool(found and found.filters), found.weight if found else 0) == (filters, weight)
    away = {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "host", "labelSelector": {"matchLabels": {"app": "x"}}}]}  # fmt: skip
    nodes = nodes_of(a={"host": "a"})
    nodes.place(guest_of(pod(uid="first", labels={"app": "x"})), "a")
    what = pod(labels={"app": "x"})
    what["spec"]["affinity"] = {"podAntiAffinity": away}
    assert one(nodes, profile, what) == ("" if filters else "a")


def test_what_a_required_affinity_is_worth_to_those_it_asks_for() -> None:
    near = {"topologyKey": "host", "labelSelector": {"matchLabels": {"app": "x"}}}
    holder, rival = pod(uid="holder"), pod(uid="rival")
    holder["spec"]["affinity"] = {
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [near]}
    }
    preferred = [{"weight": 5, "podAffinityTerm": near}]
    rival["spec"]["affinity"] = {
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}
    }
    nodes = nodes_of(a={"host": "a"}, b={"host": "b"}, c={"host": "c"})
    nodes.place(guest_of(rival), "b")
    nodes.place(guest_of(holder), "c")
    what = pod(labels={"app": "x"})
    assert one(nodes, Profile(), what) == "b"
    weighed = argued(InterPodAffinity={"hardPodAffinityWeight": 50})
    assert one(nodes, profile_of(weighed), what) == "c"
    passed = argued(InterPodAffinity={"ignorePreferredTermsOfExistingPods": True})
    assert one(nodes, profile_of(passed), what) == "a"


def test_the_arguments_of_other_plugins() -> None:
    profile = profile_of(
        argued(
            DefaultPreemption={"minCandidateNodesPercentage": 50, "minCandidateNodesAbsolute": 1},
            VolumeBinding={"bindTimeoutSeconds": 5},
            DynamicResources={"bindingTimeout": "1m30s", "filterTimeout": "10s"},
            PodTopologySpread={
                "defaultingType": "List",
                "defaultConstraints": [
                    {"topologyKey": "z", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"},
                    {"topologyKey": "h", "maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway"},
                ],
            },
        )
    )
    assert (profile.shortlist, profile.bind_s, profile.ready_s) == ((1, 50), 5.0, 90.0)
    found = [(item.topology_key, item.max_skew) for item in profile.hard_defaults]
    assert found == [("z", 1)]
    assert [item.topology_key for item in profile.defaults] == ["h"]


def test_resources_that_are_to_be_balanced() -> None:
    nodes = nodes_of(a={}, b={})
    for node, amounts in (("a", {"x.y/z": "8"}), ("b", {"x.y/z": "2"})):
        state = nodes.by_name[node].node
        allocatable = {**state["status"]["allocatable"], **amounts}
        nodes.set_node({**state, "status": {"allocatable": allocatable}})
    what = pod("2")
    what["spec"]["containers"][0]["resources"]["requests"]["x.y/z"] = "1"
    listed = {"resources": [{"name": "cpu", "weight": 1}, {"name": "x.y/z", "weight": 1}]}
    plugins = {"score": {"disabled": [{"name": "NodeResourcesFit"}]}}
    given = argued(NodeResourcesBalancedAllocation=listed)
    given["profiles"][0]["plugins"] = plugins
    assert one(nodes, profile_of(given), what) == "b"
    assert one(nodes, profile_of(configuration(plugins=plugins)), what) == "a"


def test_added_affinity_prefers_too() -> None:
    nodes = nodes_of(a={}, b={"disk": "fast"})
    term = {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}
    added = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term}]}
    assert one(nodes, profile_of(argued(NodeAffinity={"addedAffinity": added})), pod()) == "b"
    assert one(nodes, Profile(), pod()) == "a"
