"""DaemonSets through `plan`, as transcripts: a model plays the server, the scheduler, the nodes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.api.times import format_time
from sampan.controllers.daemonset_nodes import fits, new_pod, node_of, with_tolerations
from sampan.controllers.daemonset_plan import Observed, Plan, plan, status_of, survey
from sampan.controllers.runtime.podbackoff import CAP_S, PodBackoff
from tests.kit.transcript import Told, hold

START_S = 1_700_000_000.0
SETS = resource("daemonsets", "apps")


def make_set(**spec: Any) -> Object:
    rolling = {"maxUnavailable": 1, "maxSurge": 0}
    return {
        "metadata": {"name": "agent", "namespace": "ns", "uid": "s", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": template("1"),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            **spec,
        },
        "status": {},
    }


def template(image: str, **spec: Any) -> Object:
    return {
        "metadata": {"labels": {"app": "agent"}},
        "spec": {"containers": [{"name": "c", "image": image}], **spec},
    }


def make_node(name: str, taints: list[Object] | None = None, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints or []}}


def taint(key: str, effect: str) -> Object:
    return {"key": key, "effect": effect}


class Model(Told):
    """Applies plans at once; with each tick new pods run, and those that go are gone."""

    def __init__(self, owner: Object, count: int = 4) -> None:
        super().__init__(owner)
        self.nodes = [make_node(f"n{place}") for place in range(count)]
        self.pods: dict[str, Object] = {}
        self.now_s = START_S
        self.made = 0
        self.broken: Callable[[Object], bool] = lambda pod: False
        """Pods that never become ready."""

    @property
    def digest(self) -> str:
        return f"h{image_of(self.owner['spec']['template'])}"

    def sync(self) -> tuple[Plan, Object]:
        observed = Observed(self.owner, self.nodes, [*self.pods.values()], self.digest)
        before = copy.deepcopy((self.owner, self.nodes, self.pods))
        found = survey(observed, self.now_s)
        result = plan(found), status_of(found, acted=True)
        assert before == (self.owner, self.nodes, self.pods), "plan changed what it was given"
        return result

    def apply(self, found: Plan) -> None:
        for node in found.create:
            self.made += 1
            name = f"p{self.made}"
            pod = new_pod(SETS, self.owner, self.digest, node)
            pod["metadata"] |= {"name": name, "uid": name, "creationTimestamp": self.stamp()}
            pod["status"] = {"phase": "Pending"}
            self.pods[name] = pod
            self.note(f"   create {image_of(pod)} on {node}")
        for pod in found.delete:
            assert not pod["metadata"].get("deletionTimestamp")
            self.pods[pod["metadata"]["name"]]["metadata"]["deletionTimestamp"] = self.stamp()
            self.note(f"   delete {image_of(pod)} on {node_of(pod)}")

    def stamp(self) -> str:
        return format_time(self.now_s)

    def tick(self) -> None:
        self.now_s += 1
        for name, pod in [*self.pods.items()]:
            if pod["metadata"].get("deletionTimestamp"):
                del self.pods[name]
            elif pod["status"]["phase"] == "Pending":
                pod["spec"]["nodeName"] = node_of(pod)
                ready = "False" if self.broken(pod) else "True"
                condition = {"type": "Ready", "status": ready, "lastTransitionTime": self.stamp()}
                pod["status"] = {"phase": "Running", "conditions": [condition]}

    def run(self, limit: int = 60) -> None:
        """Sync and tick until nothing changes."""
        for _ in range(limit):
            before = copy.deepcopy((self.owner, self.pods))
            found, status = self.sync()
            self.apply(found)
            self.owner = {**self.owner, "status": status}
            self.tick()
            self.check()
            if before == (self.owner, self.pods):
                self.note(self.state())
                return
        raise AssertionError("the rollout does not end")

    def check(self) -> None:
        """Hooks of tests."""

    def alive(self) -> dict[str, list[Object]]:
        """Pods that are not going, by node."""
        out: dict[str, list[Object]] = {}
        for pod in self.pods.values():
            if not pod["metadata"].get("deletionTimestamp"):
                out.setdefault(node_of(pod), []).append(pod)
        return out

    def available(self) -> int:
        return sum(any(map(is_ready, pods)) for pods in self.alive().values())

    def state(self) -> str:
        pods = " ".join(
            f"{node}:{'+'.join(image_of(pod) + ('' if is_ready(pod) else '!') for pod in pods)}"
            for node, pods in sorted(self.alive().items())
        )
        said = self.owner["status"]
        keys = ("desired", "current", "updated")
        counts = "/".join(str(said.get(f"{key}NumberScheduled", 0)) for key in keys)
        more = "/".join(str(said.get(f"number{key}", 0)) for key in ("Ready", "Available"))
        return f"{pods} | {counts} {more} misscheduled {said['numberMisscheduled']}"


def image_of(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def is_ready(pod: Object) -> bool:
    return any(item["status"] == "True" for item in pod["status"].get("conditions") or ())


def rolling(surge: int | str, unavailable: int | str) -> Object:
    values = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"type": "RollingUpdate", "rollingUpdate": values}


@pytest.mark.parametrize(
    ("name", "surge", "unavailable"), [("ds_unavailable", 0, "30%"), ("ds_surge", 2, 0)]
)
def test_a_rollout(
    request: pytest.FixtureRequest, name: str, surge: int, unavailable: int | str
) -> None:
    model = Model(make_set(updateStrategy=rolling(surge, unavailable)))
    model.run()
    model.change("image 2", template=template("2"))
    model.run()
    model.broken = lambda pod: image_of(pod) == "bad"
    model.change("image bad", template=template("bad"))
    model.run()
    model.change("image 3", template=template("3"))
    model.run()
    hold(request, name, model.text())


def test_nodes_come_and_go(request: pytest.FixtureRequest) -> None:
    model = Model(make_set(), 2)
    model.run()
    model.note("-- n2 comes, n0 is tainted NoSchedule, n1 NoExecute")
    model.nodes.append(make_node("n2"))
    model.nodes[0]["spec"]["taints"] = [taint("a", "NoSchedule")]
    model.nodes[1]["spec"]["taints"] = [taint("a", "NoExecute")]
    model.run()
    model.change("only on ssd", template=template("1", nodeSelector={"disk": "ssd"}))
    model.run()
    model.note("-- n2 has one")
    model.nodes[2]["metadata"]["labels"] = {"disk": "ssd"}
    model.run()
    hold(request, "ds_nodes", model.text())


def test_never_fewer_available_than_allowed() -> None:
    for surge, unavailable, least in ((0, 1, 4), (0, "50%", 2), (1, 0, 5), ("40%", 0, 5)):
        model = Model(make_set(updateStrategy=rolling(surge, unavailable)), 5)
        model.run()
        model.change("2", template=template("2"))
        for _ in range(40):
            found, _ = model.sync()
            model.apply(found)
            assert model.available() >= least
            assert all(len(pods) <= 1 + bool(surge) for pods in model.alive().values())
            model.tick()
        assert [[image_of(pod) for pod in pods] for pods in model.alive().values()] == [["2"]] * 5


def test_a_settled_set_plans_nothing() -> None:
    model = Model(make_set())
    model.run()
    found, status = model.sync()
    assert (found, status) == (Plan((), [], (), None), model.owner["status"])


def test_what_has_ended_goes_and_a_failure_may_have_to_wait() -> None:
    model = Model(make_set(), 3)
    model.run()
    names = {node_of(pod): name for name, pod in model.pods.items()}
    for node, phase in (("n0", "Failed"), ("n1", "Succeeded"), ("n2", "Failed")):
        model.pods[names[node]]["status"] = {"phase": phase}
    waits = {"n2": 7.0}
    observed = Observed(
        model.owner,
        model.nodes,
        [*model.pods.values()],
        model.digest,
        lambda node: waits.get(node, 0.0),
    )
    found = plan(survey(observed, model.now_s))
    assert [(item.node, item.is_failed) for item in found.ended] == [("n0", True), ("n1", False)]
    assert [node_of(pod) for pod in found.delete] == ["n0", "n1"]
    assert found.again_s == 7


def test_a_pod_that_waits_for_a_node_that_is_gone_goes() -> None:
    model = Model(make_set(), 2)
    model.apply(model.sync()[0])
    model.nodes.pop()
    found, _ = model.sync()
    assert [node_of(pod) for pod in found.delete] == ["n1"]


@pytest.mark.parametrize(
    ("spec", "node", "run", "stay"),
    [
        ({}, make_node("n"), True, True),
        ({"nodeName": "n"}, make_node("n"), True, True),
        ({"nodeName": "m"}, make_node("n"), False, False),
        ({"nodeSelector": {"a": "b"}}, make_node("n", a="b"), True, True),
        ({"nodeSelector": {"a": "b"}}, make_node("n", a="c"), False, False),
        ({}, make_node("n", [taint("x", "NoSchedule")]), False, True),
        ({}, make_node("n", [taint("x", "NoExecute")]), False, False),
        ({}, make_node("n", [taint("x", "PreferNoSchedule")]), True, True),
        ({}, make_node("n", [taint("node.kubernetes.io/unreachable", "NoExecute")]), True, True),
        ({}, make_node("n", [taint("node.kubernetes.io/unschedulable", "NoSchedule")]), True, True),
        ({}, make_node("n", [taint("node.kubernetes.io/network-unavailable", "NoSchedule")]),
         False, True),
        ({"hostNetwork": True},
         make_node("n", [taint("node.kubernetes.io/network-unavailable", "NoSchedule")]),
         True, True),
        ({"tolerations": [{"operator": "Exists"}]}, make_node("n", [taint("x", "NoExecute")]),
         True, True),
    ],
)  # fmt: skip
def test_which_nodes(spec: Object, node: Object, run: bool, stay: bool) -> None:
    assert fits(make_set(template=template("1", **spec)))(node) == (run, stay)


@pytest.mark.parametrize(
    ("operator", "values", "value", "want"),
    [
        ("In", ["a", "b"], "b", True),
        ("In", ["a"], None, False),
        ("NotIn", ["a"], "a", False),
        ("NotIn", ["a"], None, True),
        ("Exists", [], "x", True),
        ("DoesNotExist", [], "x", False),
        ("Gt", ["4"], "5", True),
        ("Lt", ["4"], "5", False),
        ("Gt", ["4"], "x", False),
    ],
)
def test_affinity(operator: str, values: list[str], value: str | None, want: bool) -> None:
    term = {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    spec = template("1", affinity={"nodeAffinity": required})
    node = make_node("n")
    node["metadata"]["labels"] = {"k": value} if value is not None else {}
    assert fits(make_set(template=spec))(node).run is want


def test_a_toleration_that_ends_is_made_to_last() -> None:
    key = "node.kubernetes.io/not-ready"
    given = {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    found = with_tolerations({"tolerations": [given]})
    assert [item for item in found if item["key"] == key] == [
        {"key": key, "operator": "Exists", "effect": "NoExecute"}
    ]


def test_the_pause_doubles_to_a_cap_and_is_forgotten() -> None:
    backoff, now_s = PodBackoff(), START_S
    lengths = []
    for _ in range(12):
        backoff.deleted("n", now_s)
        lengths.append(backoff.wait_s("n", now_s))
        now_s += lengths[-1]
    assert lengths == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, CAP_S, CAP_S]
    backoff.deleted("n", now_s + 3 * CAP_S)
    assert backoff.wait_s("n", now_s + 3 * CAP_S) == 1
    backoff.keep(lambda: {"n"}, 0)
    assert backoff.wait_s("n", now_s + 3 * CAP_S) == 1
    backoff.keep(lambda: {"n"}, 1)
    assert backoff.wait_s("n", now_s + 3 * CAP_S) == 0
