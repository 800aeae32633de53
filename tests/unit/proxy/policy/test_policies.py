"""Policies, pods and namespaces to rules: judged by a small kernel against upstream's words."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.selectors import from_label_selector
from sampan.linux.conntrack import Tracked
from sampan.proxy.policy.flows import REFUSED, judged, permits, tightened
from sampan.proxy.policy.index import PolicyIndex, State, rules_of
from sampan.proxy.policy.objects import Pod, compile_policy, merge
from sampan.proxy.policy.table import PolicyTable

NUMBERS = {"tcp": "TCP", "udp": "UDP"}
_IP_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17}


def allows(state: State, source: str, target: str, protocol: str, port: int) -> bool:
    """What the kernel does with the first packet of a connection that is forwarded."""
    if source == target:
        return True
    for direction, pod, peer in (("out", source, target), ("in", target, source)):
        name = state.targets[direction].get(pod)
        if name is not None and not _passes(state, name, peer, protocol, port):
            return False
    return True


def _passes(state: State, name: str, peer: str, protocol: str, port: int) -> bool:
    item = state.classes[name]
    chain: str | None = name
    while chain is not None:
        following = None
        for rule in item.chains[chain]:
            words = rule.split()
            if rule in ("return", "drop"):
                return rule == "return"
            if words[0] == "ip":
                own = words[2][1:]
                inside = peer in item.pods.get(own, ()) or any(
                    low <= int(IPv4Address(peer)) <= high for low, high in item.blocks.get(own, ())
                )
                if inside:
                    return True
                continue
            hits = [c for p, (a, b), c in item.segments if p == protocol and a <= port <= b]
            assert len(hits) <= 1, "segments overlap"
            if hits:
                following = hits[0]
                break
        chain = following
    raise AssertionError("the chain has no end")


def judge(policies: list[Any], pods: dict, spaces: dict, flow: tuple[str, str, str, int]) -> bool:
    """The API reference, word by word and slowly."""
    source, target, protocol, port = flow
    by_ip = {pod.ip: pod for pod in pods.values()}
    if source == target:
        return True
    for kind, peers, ip, other in (
        ("Egress", "to", source, target), ("Ingress", "from", target, source),
    ):  # fmt: skip
        pod = by_ip.get(ip)
        if pod is None or not pod.local:
            continue
        chosen = [
            p for p in policies
            if p["metadata"]["namespace"] == pod.namespace and kind in p["spec"]["policyTypes"]
            and from_label_selector(p["spec"]["podSelector"]).matches(pod.labels)
        ]  # fmt: skip
        rules = [(p, rule) for p in chosen for rule in p["spec"].get(kind.lower(), ())]
        receiver = by_ip.get(target)
        if chosen and not any(
            _port_ok(rule, receiver, protocol, port)
            and _peer_ok(
                rule.get(peers), p["metadata"]["namespace"], by_ip.get(other), other, spaces
            )
            for p, rule in rules
        ):
            return False
    return True


def _port_ok(rule: dict, receiver: Pod | None, protocol: str, port: int) -> bool:
    for item in rule.get("ports") or ():
        number = item.get("port")
        if item["protocol"] != NUMBERS.get(protocol):
            continue
        if number is None:
            return True
        if isinstance(number, str):
            if receiver and dict(receiver.ports).get((number, protocol)) == port:
                return True
        elif number <= port <= item.get("endPort", number):
            return True
    return not rule.get("ports")


def _peer_ok(peers: list | None, own: str, pod: Pod | None, ip: str, spaces: dict) -> bool:
    for peer in peers or ():
        block = peer.get("ipBlock")
        if block:
            address = ip_address(ip)
            if address in ip_network(block["cidr"]) and not any(
                address in ip_network(part) for part in block.get("except", ())
            ):
                return True
            continue
        if pod is None:
            continue
        spaced = peer.get("namespaceSelector")
        home = (
            pod.namespace == own
            if spaced is None
            else pod.namespace in spaces
            and from_label_selector(spaced).matches(spaces[pod.namespace])
        )
        if home and from_label_selector(peer.get("podSelector", {})).matches(pod.labels):
            return True
    return not peers


SPACES = {"a": {"team": "x"}, "b": {"team": "y"}}
SELECTORS = st.sampled_from(
    [{}, {"matchLabels": {"app": "1"}}, {"matchLabels": {"app": "2"}},
     {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["1"]}]}]
)  # fmt: skip
TEAMS = st.sampled_from([{}, {"matchLabels": {"team": "x"}}, {"matchLabels": {"team": "y"}}])
BLOCKS = st.sampled_from(
    [{"cidr": "10.0.0.0/29"}, {"cidr": "10.0.0.0/29", "except": ["10.0.0.2/31"]},
     {"cidr": "0.0.0.0/0", "except": ["10.0.0.4/30", "9.0.0.0/8"]}, {"cidr": "10.0.0.3/32"}]
)  # fmt: skip
PEERS = st.one_of(
    st.fixed_dictionaries({"podSelector": SELECTORS}),
    st.fixed_dictionaries({"namespaceSelector": TEAMS}),
    st.fixed_dictionaries({"podSelector": SELECTORS, "namespaceSelector": TEAMS}),
    st.fixed_dictionaries({"ipBlock": BLOCKS}),
)
PORTS = st.builds(
    lambda protocol, rest: {"protocol": protocol, **rest},
    st.sampled_from(["TCP", "UDP"]),
    st.sampled_from(
        [{}, {"port": 80}, {"port": 81}, {"port": 79, "endPort": 82}, {"port": "web"},
         {"port": 81, "endPort": 65535}, {"port": "absent"}]
    ),
)  # fmt: skip


def rules(peers: str) -> st.SearchStrategy:
    return st.lists(
        st.fixed_dictionaries(
            {}, optional={peers: st.lists(PEERS, max_size=2), "ports": st.lists(PORTS, max_size=2)}
        ),
        max_size=2,
    )


POLICIES = st.builds(
    lambda namespace, selector, kinds, ingress, egress: {
        "metadata": {"namespace": namespace, "name": "p"},
        "spec": {
            "podSelector": selector, "policyTypes": kinds, "ingress": ingress, "egress": egress,
        },
    },
    st.sampled_from(["a", "b"]), SELECTORS,
    st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
    rules("from"), rules("to"),
)  # fmt: skip
PODS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]), st.sampled_from([{}, {"app": "1"}, {"app": "2"}]),
        st.booleans(), st.sampled_from([(), ((("web", "tcp"), 80),), ((("web", "tcp"), 82),)]),
    ), min_size=2, max_size=4,
)  # fmt: skip


def pods_of(drawn: list) -> dict:
    return {
        (space, f"pod-{n}"): Pod(space, labels, f"10.0.0.{n}", local, ports)
        for n, (space, labels, local, ports) in enumerate(drawn, 1)
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(POLICIES, min_size=1, max_size=4), PODS)
def test_the_rules_say_what_the_policies_say(policies: list, drawn: list) -> None:
    pods = pods_of(drawn)
    compiled = {(p["metadata"]["namespace"], str(n)): compile_policy(p)
                for n, p in enumerate(policies)}  # fmt: skip
    state = rules_of(compiled, pods, SPACES)
    addresses = [*(pod.ip for pod in pods.values()), "192.0.2.1"]
    for source in addresses:
        for target in addresses:
            for protocol in ("tcp", "udp", "icmp"):
                for port in (78, 79, 80, 81, 82, 83):
                    flow = source, target, protocol, port
                    right = judge(policies, pods, SPACES, flow)
                    assert allows(state, *flow) == right, flow
                    # So it is with connections that were open before.
                    assert permits(state, source, target, _IP_NUMBERS[protocol], port) == right


class Kernel:
    """What nft would hold after our scripts; refuses what nft refuses."""

    def __init__(self) -> None:
        self.things: dict[str, set[str]] = {}

    def apply(self, script: str) -> None:
        for line in script.splitlines():
            verb, what, _, table, *rest = line.split(" ", 5)
            assert table == "sampan-t.policy"
            if what == "table":
                self.things.clear()
                continue
            name, words = rest[0], rest[1] if len(rest) > 1 else ""
            if what == "rule":
                self.things[name].add(words)
            elif what == "element":
                for item in words.strip("{} ").split(", "):
                    if verb == "add":
                        assert item not in self.things[name]
                        self.things[name].add(item)
                    else:
                        gone = [i for i in self.things[name] if i.split(" : ")[0] == item]
                        assert len(gone) == 1, line
                        self.things[name].remove(gone[0])
            elif verb == "add":
                self.things.setdefault(name, set())
            elif verb == "flush":
                self.things[name].clear()
            else:
                used = {word.strip("@") for part in self.things.values()
                        for item in part for word in item.split()}  # fmt: skip
                assert name not in used, f"{name} is in use"
                del self.things[name]


STEPS = st.lists(
    st.tuples(st.sampled_from(["policy", "pod", "space"]), st.integers(0, 3), POLICIES, PODS,
              st.booleans()), max_size=10,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_changes_end_where_a_fresh_start_does(steps: list) -> None:
    index, table, kernel = PolicyIndex(), PolicyTable("t"), Kernel()
    policies: dict[Any, Any] = {}
    pods: dict[Any, Pod] = {}
    spaces: dict[str, Any] = {}
    kernel.apply(table.whole(index.state()))
    for kind, number, policy, drawn, gone in steps:
        if kind == "policy":
            key = (policy["metadata"]["namespace"], str(number))
            _put(policies, key, None if gone else compile_policy(policy))
            index.put_policy(key, policies.get(key))
        elif kind == "pod":
            key, pod = next(iter(pods_of(drawn).items()))
            key = (key[0], str(number))
            pod = Pod(pod.namespace, pod.labels, f"10.0.{key[0] == 'a':d}.{number}", *_rest(pod))
            _put(pods, key, None if gone else pod)
            index.put_pod(key, pods.get(key))
        else:
            name = "ab"[number % 2]
            _put(spaces, name, None if gone else SPACES["ab"[number // 2]])
            index.put_namespace(name, spaces.get(name))
        for script in table.change(index.state()):
            kernel.apply(script)
    fresh = Kernel()
    fresh.apply(PolicyTable("t").whole(rules_of(policies, pods, spaces)))
    assert kernel.things == fresh.things


def _put(where: dict, key: Any, value: Any) -> None:
    if value is None:
        where.pop(key, None)
    else:
        where[key] = value


def _rest(pod: Pod) -> tuple:
    return pod.local, pod.ports


def policy(**spec: Any) -> dict:
    return {"metadata": {"namespace": "a", "name": "p"}, "spec": {"podSelector": {}, **spec}}


def test_a_pod_that_comes_touches_elements_alone() -> None:
    index, table = PolicyIndex(), PolicyTable("t")
    index.put_namespace("a", {})
    index.put_policy(("a", "p"), compile_policy(policy(ingress=[{"from": [{"podSelector": {}}]}])))
    index.put_pod(("a", "one"), Pod("a", {}, "10.0.0.1", True))
    table.whole(index.state())
    index.put_pod(("a", "two"), Pod("a", {}, "10.0.0.2", True))
    (script,) = table.change(index.state())
    assert [line.split()[:2] for line in script.splitlines()] == [["add", "element"]] * 3
    assert table.change(index.state()) == []


def test_lookups_do_not_grow_with_the_policies() -> None:
    def made(count: int) -> int:
        compiled = {
            ("a", str(n)): compile_policy(
                policy(ingress=[{"from": [{"podSelector": {"matchLabels": {"n": str(n)}}}]}])
            )
            for n in range(count)
        }
        state = rules_of(compiled, {("a", "x"): Pod("a", {}, "10.0.0.1", True)}, {"a": {}})
        return sum(len(chain) for item in state.classes.values() for chain in item.chains.values())

    assert made(1) == made(200)


def test_ranges_neither_overlap_nor_touch() -> None:
    assert merge([(5, 9), (1, 3), (4, 4), (7, 20), (30, 30)]) == ((1, 20), (30, 30))


def test_namespaces_that_are_gone_leave_nothing() -> None:
    index = PolicyIndex()
    rule = compile_policy(policy(ingress=[{"from": [{"namespaceSelector": {}}]}]))
    for number in range(3):
        name = f"n{number}"
        index.put_namespace(name, {})
        for pod in ("a", "b"):
            index.put_pod((name, pod), Pod(name, {}, "10.0.0.1", True))
        index.put_policy((name, "p"), rule)
        index.state()
        for pod in ("a", "b"):
            assert index.put_pod((name, pod), None)
            assert not index.put_pod((name, pod), None)
        assert index.put_policy((name, "p"), None)
        index.put_namespace(name, None)
        assert index.state() == State()
    kept = {name: value for name, value in vars(index).items() if name != "family"}
    assert not any(kept.values()), kept


def test_open_connections_are_judged_when_rules_become_stricter() -> None:
    pods = {("a", name): Pod("a", {"app": name}, f"10.0.0.{number}", True)
            for number, name in enumerate("xyz", 1)}  # fmt: skip
    peers = [{"podSelector": {"matchExpressions": [
        {"key": "app", "operator": "In", "values": ["x", "y"]}]}}]  # fmt: skip
    index = PolicyIndex()
    index.put_namespace("a", {})
    for key, pod in pods.items():
        index.put_pod(key, pod)
    before = index.state()
    index.put_policy(("a", "p"), compile_policy(policy(ingress=[{"from": peers}])))
    now = index.state()
    assert tightened(before, now)
    assert not tightened(before, now, {"10.0.0.1", "10.0.0.2", "10.0.0.3"})
    assert not tightened(now, now)
    index.put_pod(("a", "w"), Pod("a", {"app": "x"}, "10.0.0.9", False))
    more = index.state()
    assert not tightened(now, more)
    index.put_pod(("a", "w"), Pod("a", {"app": "other"}, "10.0.0.9", False))
    less = index.state()
    assert tightened(more, less)
    assert not tightened(more, less, {"10.0.0.9"})

    def flow(source: int, mark: int) -> Tracked:
        ends = [ip_address(f"10.0.0.{number}").packed for number in (source, 3)]
        return Tracked(ends[0], ends[1], 6, 80, mark, b"")

    flows = [flow(1, 0), flow(2, REFUSED | 5), flow(9, 4), flow(9, REFUSED), flow(254, 0)]
    own = {"10.0.0.254"}
    assert [*judged(flows, less, own.__contains__)] == [(flows[1], False), (flows[2], True)]
