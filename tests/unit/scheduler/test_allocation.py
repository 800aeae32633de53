"""Devices for claims on a node: the search, by examples."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.scheduler.allocation import (
    Claim,
    Impossible,
    Pools,
    Request,
    Search,
    allocation_of,
)
from sampan.scheduler.nodes import NodeState, read_node
from sampan.scheduler.selecting import Selecting
from sampan.scheduler.shares import consumed, taken_by

DRIVER = "gpu.example.com"


def node(name: str = "n1", **labels: str) -> NodeState:
    return read_node({"metadata": {"name": name, "labels": labels}, "status": {}})


def device(name: str, model: str = "a", **more: Any) -> Any:
    attributes = {"model": {"string": model}, "other.example/numa": {"int": more.pop("numa", 0)}}
    return {"name": name, "attributes": attributes, **more}


def piece(devices: list[Any], name: str = "s", **spec: Any) -> Any:
    pool = {"name": "pool", "generation": 1, "resourceSliceCount": 1}
    where = {"nodeName": "n1"} if not spec.keys() & {"allNodes", "nodeSelector"} else {}
    spec = {"driver": DRIVER, "pool": {**pool, **spec.pop("pool", {})}, **where, **spec}
    return {"metadata": {"name": name}, "spec": {**spec, "devices": devices}}


def claim(pools: Pools, *requests: Any, **devices: Any) -> Claim:
    """Requests as (name, body) or, with alternatives, as lists of them."""
    listed = [item if isinstance(item, list) else [item] for item in requests]
    found = []
    for choices in listed:
        alternatives = []
        for name, body in choices:
            wanted = Selecting(list).of(name, body.pop("cel", []), pools.devices)
            whole, broken = [x for x in wanted if x.whole], [x for x in wanted if not x.whole]
            alternatives.append(Request(name, body, whole, broken))
        found.append(alternatives)
    return Claim({"spec": {"devices": devices}}, found, {})


def names(found: Any) -> Any:
    return found and [[(r.name, d.id[2]) for r, d in chosen] for chosen in found]


def test_devices_are_taken_once_and_by_selector() -> None:
    pools = Pools([piece([device("g0"), device("g1", "b"), device("g2", "b")])])
    cel = ['device.attributes["gpu.example.com"].model == "b"']
    one = claim(pools, ("gpu", {"cel": cel}))
    two = claim(pools, ("gpu", {"cel": [*cel]}))
    assert names(Search(node(), pools, ()).allocate([one, two])) == [
        [("gpu", "g1")],
        [("gpu", "g2")],
    ]
    assert names(Search(node(), pools, [(DRIVER, "pool", "g1")]).allocate([one, two])) is None
    assert names(Search(node("n2"), pools, ()).allocate([one])) is None


def test_counts_all_and_administrators() -> None:
    pools = Pools([piece([device("g0"), device("g1"), device("g2")])])
    taken = [(DRIVER, "pool", "g0")]
    free = Search(node(), pools, taken)
    assert names(free.allocate([claim(pools, ("g", {"count": 2}))])) == [[("g", "g1"), ("g", "g2")]]
    assert free.allocate([claim(pools, ("g", {"count": 3}))]) is None
    every = ("g", {"allocationMode": "All"})
    assert Search(node(), pools, taken).allocate([claim(pools, every)]) is None
    watcher = claim(pools, ("g", {"allocationMode": "All", "adminAccess": True}))
    found = Search(node(), pools, taken).allocate([watcher])
    assert found is not None
    assert len(found[0]) == 3
    results = allocation_of(watcher, found[0], node())["devices"]["results"]
    assert all(item["adminAccess"] for item in results)


def test_alternatives_are_tried_in_their_order() -> None:
    pools = Pools([piece([device("g0", "small"), device("g1", "small")])])
    large = ("gpu/large", {"cel": ['device.attributes["gpu.example.com"].model == "large"']})
    small = ("gpu/small", {"count": 2})
    found = Search(node(), pools, ()).allocate([claim(pools, [large, small])])
    assert names(found) == [[("gpu/small", "g0"), ("gpu/small", "g1")]]


def test_constraints_make_the_search_go_back() -> None:
    devices = [device("g0", numa=0), device("g1", numa=1), device("n0", "nic", numa=1)]
    pools = Pools([piece(devices)])
    model = 'device.attributes["gpu.example.com"].model == '
    wanted = (("gpu", {"cel": [model + '"a"']}), ("nic", {"cel": [model + '"nic"']}))
    near = claim(pools, *wanted, constraints=[{"matchAttribute": "other.example/numa"}])
    assert names(Search(node(), pools, ()).allocate([near])) == [[("gpu", "g1"), ("nic", "n0")]]
    pair = ("gpu", {"count": 2, "cel": [model + '"a"']})
    apart = claim(pools, pair, constraints=[{"distinctAttribute": "other.example/numa"}])
    assert names(Search(node(), pools, ()).allocate([apart])) == [[("gpu", "g0"), ("gpu", "g1")]]
    same = claim(
        pools, ("gpu", {"count": 3}), constraints=[{"matchAttribute": "gpu.example.com/model"}]
    )
    assert Search(node(), pools, ()).allocate([same]) is None


def test_taints_and_shared_counters() -> None:
    tainted = [{"key": "sick", "effect": "NoSchedule"}]
    half: Any = {
        "consumesCounters": [{"counterSet": "mem", "counters": {"bytes": {"value": "6Gi"}}}]
    }
    shared = [{"name": "mem", "counters": {"bytes": {"value": "10Gi"}}}]
    pools = Pools([piece([device("g0", taints=tainted), device("h0", **half), device("h1", **half)],
                         sharedCounters=shared)])  # fmt: skip
    found = Search(node(), pools, ()).allocate([claim(pools, ("g", {}))])
    assert names(found) == [[("g", "h0")]]
    assert Search(node(), pools, ()).allocate([claim(pools, ("g", {"count": 2}))]) is None
    brave = {"tolerations": [{"key": "sick", "operator": "Exists"}], "count": 2}
    found = Search(node(), pools, ()).allocate([claim(pools, ("g", brave))])
    assert names(found) == [[("g", "g0"), ("g", "h0")]]


def test_a_shared_device_is_had_until_its_capacity_is() -> None:
    policy = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "2Gi", "max": "9Gi"}}
    memory = {"memory": {"value": "8Gi", "requestPolicy": policy}}
    half: Any = {"consumesCounters": [{"counterSet": "c", "counters": {"n": {"value": "1"}}}]}
    shared = device("g0", capacity=memory, allowMultipleAllocations=True, **half)
    pools = Pools(
        [
            piece(
                [shared, device("g1", **half)],
                sharedCounters=[{"name": "c", "counters": {"n": {"value": "1"}}}],
            )
        ]
    )

    def asks(amount: str, count: int = 1) -> Any:
        return ("g", {"capacity": {"requests": {"memory": amount}}, "count": count})

    one = claim(pools, asks("2Gi"))
    found = Search(node(), pools, ()).allocate(
        [one, claim(pools, asks("3Gi")), claim(pools, ("g", {}))]
    )
    assert names(found) == [[("g", "g0")], [("g", "g0")], [("g", "g0")]]
    assert found is not None
    # Rounded up to what the policy allows.
    (result,) = allocation_of(one, found[0], node())["devices"]["results"]
    assert result["consumedCapacity"] == {"memory": "3Gi"}
    assert len(result["shareID"]) == 36
    first = {(DRIVER, "pool", "g0"): consumed(result)}
    assert Search(node(), pools, (), first).allocate([claim(pools, asks("5Gi"))]) is not None
    assert Search(node(), pools, (), first).allocate([claim(pools, asks("6Gi"))]) is None
    # The same one, as often as it is asked for.
    found = Search(node(), pools, (), first).allocate([claim(pools, asks("1Gi", 5))])
    assert names(found) == [[("g", "g0")] * 5]
    assert Search(node(), pools, (), first).allocate([claim(pools, asks("1Gi", 6))]) is None
    # Its counters are taken once: the other device's are not there any more.
    plain = claim(pools, ("g", {"cel": ["!device.allowMultipleAllocations"]}))
    assert Search(node(), pools, (), first).allocate([plain]) is None
    assert names(Search(node(), pools, ()).allocate([plain])) == [[("g", "g1")]]


@pytest.mark.parametrize(
    ("asked", "policy", "taken"),
    [
        (None, {}, "10Gi"),
        (None, {"default": "2Gi"}, "2Gi"),
        ("3Gi", {}, "3Gi"),
        ("3Gi", {"default": "1Gi", "validValues": ["1Gi", "4Gi"]}, "4Gi"),
        ("5Gi", {"default": "1Gi", "validValues": ["1Gi", "4Gi"]}, None),
        ("1", {"default": "1Gi", "validRange": {"min": "1Gi"}}, "1Gi"),
        ("9Gi", {"default": "1Gi", "validRange": {"min": "1Gi", "max": "8Gi"}}, None),
        ("11Gi", {}, None),
    ],
)
def test_what_a_request_takes_of_a_capacity(asked: Any, policy: Any, taken: Any) -> None:
    body = {"capacity": {"requests": {"memory": asked}}} if asked else {}
    found = taken_by(body, {"capacity": {"memory": {"value": "10Gi", "requestPolicy": policy}}})
    assert (found["memory"][1] if found else None) == taken
    assert taken_by({"capacity": {"requests": {"other": "1"}}}, {}) is None


def test_only_the_newest_whole_generation_counts() -> None:
    old, new = piece([device("g0")], "old"), piece([device("g1")], "new", pool={"generation": 2})
    assert [item.id[2] for item in Pools([old, new]).devices] == ["g1"]
    part = Pools([piece([device("g0")], pool={"resourceSliceCount": 2})])
    assert Search(node(), part, ()).allocate([claim(part, ("g", {}))]) is None


def test_where_an_allocation_can_be_used() -> None:
    zone = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    pools = Pools([piece([device("g0")], nodeSelector={"nodeSelectorTerms": [zone]})])
    one = claim(pools, ("g", {}))
    found = Search(node("n7", zone="a"), pools, ()).allocate([one])
    assert found is not None
    assert allocation_of(one, found[0], node("n7"))["nodeSelector"] == {"nodeSelectorTerms": [zone]}
    assert Search(node("n7", zone="b"), pools, ()).allocate([one]) is None
    anywhere = Pools([piece([device("g0")], allNodes=True)])
    free = claim(anywhere, ("g", {}))
    found = Search(node("n7"), anywhere, ()).allocate([free])
    assert found is not None
    assert "nodeSelector" not in allocation_of(free, found[0], node("n7"))


def test_configurations_of_class_and_claim_go_with_the_devices() -> None:
    pools = Pools([piece([device("g0")])])
    opaque = {"opaque": {"driver": DRIVER, "parameters": {"x": 1}}}
    one = claim(pools, ("g", {}), config=[opaque, {**opaque, "requests": ["other"]}])
    one = one._replace(configs={"g": [opaque]})
    found = Search(node(), pools, ()).allocate([one])
    assert found is not None
    assert allocation_of(one, found[0], node())["devices"]["config"] == [
        {**opaque, "source": "FromClass", "requests": ["g"]},
        {**opaque, "source": "FromClaim"},
    ]


def test_a_selector_that_cannot_be_asked_stops_the_pod() -> None:
    pools = Pools([piece([device("g0")])])
    with pytest.raises(Impossible, match=r"request g: device .*/pool/g0: CEL runtime"):
        Selecting(list).of("g", ['device.attributes["gpu.example.com"].absent == 1'], pools.devices)
