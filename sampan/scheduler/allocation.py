"""Which devices claims get on a node: structured parameters (KEP-4381), and what came with 1.36:
a list of alternatives (KEP-4816), taints (KEP-5055), counters that devices share (KEP-4815),
administrators' access (KEP-5018), capacity that several claims share (KEP-5075). Pure.

The search goes through requests in order and devices by name, and takes the first way that works;
it gives up after `STEPS` steps. Devices of a pool count only when all slices of its newest
generation are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.placement import any_term_matches, tolerates
from sampan.wire.quantity import nanos

from .nodes import NodeState
from .shares import fits, is_shared, taken_by

STEPS = 20_000
"""Most devices looked at for one node: 32 requests rarely need more than some hundreds."""
MOST_DEVICES = 32
"""Of one claim (AllocationResultsMaxSize)."""

Id = tuple[str, str, str]
"""(driver, pool, device)"""


class Impossible(Exception):
    """No node will do; the text says why."""


class Device(Struct, frozen=True, eq=False):
    """One device of a slice."""

    id: Id
    device: Object
    slice: Object
    whole: bool
    """Are all slices of its pool there?"""


class Pools:
    """All devices of the newest generations, by pool."""

    def __init__(self, slices: Iterable[Object]) -> None:
        newest: dict[tuple[str, str], list[Object]] = {}
        for item in slices:
            spec = item["spec"]
            pool = spec["pool"]
            known = newest.setdefault((spec["driver"], pool["name"]), [])
            generation = pool.get("generation", 0)
            if known and known[0]["spec"]["pool"].get("generation", 0) < generation:
                known.clear()
            if not known or known[0]["spec"]["pool"].get("generation", 0) == generation:
                known.append(item)
        self.devices: list[Device] = []
        self.counters: dict[tuple[str, str, str, str], int] = {}
        """What each set of counters has, by driver, pool, set and counter."""
        for (driver, name), found in sorted(newest.items()):
            whole = len(found) >= found[0]["spec"]["pool"].get("resourceSliceCount", 1)
            for item in sorted(found, key=lambda one: one["metadata"]["name"]):
                for device in item["spec"].get("devices") or ():
                    self.devices.append(Device((driver, name, device["name"]), device, item, whole))
                for shared in item["spec"].get("sharedCounters") or ():
                    for counter, value in (shared.get("counters") or {}).items():
                        key = driver, name, shared["name"], counter
                        self.counters[key] = nanos(value["value"])
        self.by_id = {device.id: device for device in self.devices}


def reaches(device: Device, node: NodeState) -> bool:
    """Can the node use it?"""
    where = device.slice["spec"]
    if where.get("perDeviceNodeSelection"):
        where = device.device
    if where.get("nodeName"):
        return bool(where["nodeName"] == node.name)
    if where.get("allNodes"):
        return True
    selector = where.get("nodeSelector")
    return selector is not None and any_term_matches(selector, node.name, node.labels)


class Request(NamedTuple):
    """One request, or one of its alternatives, ready to be looked for."""

    name: str
    """As results name it: "gpu", or "gpu/large"."""
    body: Object
    matching: Sequence[Device]
    """Devices of whole pools that its class and its selectors want."""
    broken: Sequence[Device]
    """The same of pools that are being changed."""

    @property
    def admin(self) -> bool:
        return bool(self.body.get("adminAccess"))


class Claim(NamedTuple):
    """A claim to be allocated."""

    obj: Object
    requests: Sequence[Sequence[Request]]
    """For each request its alternatives, the best first."""
    configs: Mapping[str, Sequence[Object]]
    """Of the classes, by the name of the request."""


class Chosen(NamedTuple):
    request: Request
    device: Device


class Search:
    """Allocates claims for one node, on top of what is taken already."""

    def __init__(
        self,
        node: NodeState,
        pools: Pools,
        taken: Iterable[Id],
        shares: Mapping[Id, Counter[str]] | None = None,
    ) -> None:
        """`shares` is what has been taken of devices that are shared."""
        self._node = node
        self._pools = pools
        self._taken = {*taken}
        self._shares = {found: Counter(amounts) for found, amounts in (shares or {}).items()}
        self._users = Counter(self._shares.keys())
        """How many have a share of a device: it takes of its counters once."""
        self._steps = 0
        self._used: Counter[tuple[str, str, str, str]] = Counter()
        for found in self._taken | self._shares.keys():
            if found in pools.by_id:
                self._used.update(_consumed(pools.by_id[found]))

    def allocate(self, claims: Sequence[Claim]) -> list[list[Chosen]] | None:
        """For each claim its devices; None when there is no way."""
        slots = [(number, alternatives) for number, claim in enumerate(claims)
                 for alternatives in claim.requests]  # fmt: skip
        chosen: list[list[Chosen]] = [[] for _ in claims]
        return chosen if self._fill(claims, slots, 0, chosen) else None

    def _fill(
        self, claims: Sequence[Claim], slots: Sequence[Any], at: int, chosen: list[list[Chosen]]
    ) -> bool:
        if at == len(slots):
            return True
        number, alternatives = slots[at]
        mine = chosen[number]
        for request in alternatives:
            for devices in self._ways(request):
                added = [Chosen(request, device) for device in devices]
                if len(mine) + len(added) > MOST_DEVICES:
                    continue
                mine += added
                # Another request of the claim may still add to a constraint: it is checked again.
                if self._hold(claims[number], mine):
                    self._take(added, 1)
                    if self._fill(claims, slots, at + 1, chosen):
                        return True
                    self._take(added, -1)
                del mine[len(mine) - len(added) :]
                if self._steps > STEPS:
                    return False
        return False

    def _take(self, added: Sequence[Chosen], sign: int) -> None:
        for request, device in added:
            if request.admin:
                continue
            if is_shared(device.device):
                self._share(request, device, sign)
                continue
            (self._taken.add if sign > 0 else self._taken.discard)(device.id)
            for key, amount in _consumed(device).items():
                self._used[key] += sign * amount

    def _share(self, request: Request, device: Device, sign: int) -> None:
        amounts = taken_by(request.body, device.device) or {}
        share = self._shares.setdefault(device.id, Counter())
        for name, (amount, _) in amounts.items():
            share[name] += sign * amount
        before = self._users[device.id]
        self._users[device.id] += sign
        if bool(before) != bool(before + sign):
            for key, amount in _consumed(device).items():
                self._used[key] += sign * amount

    def _ways(self, request: Request) -> Iterator[tuple[Device, ...]]:
        """Sets of devices that would do for a request, each set once."""
        body = request.body
        # What is ready at once goes before what has to be waited for (KEP-5007).
        local = sorted(
            (device for device in request.matching if reaches(device, self._node)),
            key=lambda device: bool(device.device.get("bindingConditions")),
        )
        if body.get("allocationMode") == "All":
            pending = any(reaches(device, self._node) for device in request.broken)
            if local and not pending and self._all_free(local, request):
                yield tuple(local)
            return
        usable = [device for device in local if _tolerated(device, body)]
        yield from self._combine(usable, request, body.get("count") or 1, ())

    def _all_free(self, devices: Sequence[Device], request: Request) -> bool:
        return all(
            self._free(device, request, devices[:number]) for number, device in enumerate(devices)
        )

    def _combine(
        self, devices: Sequence[Device], request: Request, count: int, so_far: tuple[Device, ...]
    ) -> Iterator[tuple[Device, ...]]:
        if not count:
            yield so_far
            return
        for at, device in enumerate(devices):
            self._steps += 1
            if self._steps > STEPS:
                return
            if self._free(device, request, so_far):
                # A device that is shared may be had several times.
                rest = devices[at if is_shared(device.device) else at + 1 :]
                yield from self._combine(rest, request, count - 1, (*so_far, device))

    def _free(self, device: Device, request: Request, beside: Sequence[Device] = ()) -> bool:
        if request.admin:
            return True
        if device.id in self._taken or not _tolerated(device, request.body):
            return False
        amounts = taken_by(request.body, device.device)
        if amounts is None:
            return False
        again = sum(other.id == device.id for other in beside)
        if is_shared(device.device):
            used = self._shares.get(device.id, Counter())
            if not fits(device.device, amounts, used, 1 + again):
                return False
        wanted: Counter[tuple[str, str, str, str]] = Counter()
        for other in {one.id: one for one in (device, *beside)}.values():
            if not self._users[other.id]:
                wanted.update(_consumed(other))
        counters = self._pools.counters
        return all(self._used[key] + n <= counters.get(key, 0) for key, n in wanted.items())

    def _hold(self, claim: Claim, chosen: Sequence[Chosen]) -> bool:
        """Do the claim's constraints hold for the devices so far?"""
        devices = claim.obj["spec"]["devices"]
        for item in devices.get("constraints") or ():
            names = item.get("requests") or ()
            values = []
            for request, device in chosen:
                if not names or request.name in names or request.name.partition("/")[0] in names:
                    values.append(attribute_of(device, item.get("matchAttribute")
                                               or item.get("distinctAttribute", "")))  # fmt: skip
            if None in values:
                return False
            if item.get("matchAttribute") and len({*values}) > 1:
                return False
            if item.get("distinctAttribute") and len({*values}) < len(values):
                return False
        return True


def attribute_of(device: Device, name: str) -> Any:
    """The value of a fully qualified attribute; a name without a domain is its driver's."""
    attributes = device.device.get("attributes") or {}
    domain, _, short = name.rpartition("/")
    found = attributes.get(name)
    if found is None and domain == device.id[0]:
        found = attributes.get(short)
    return next(iter((kind, value) for kind, value in found.items()), None) if found else None


def _consumed(device: Device) -> Counter[tuple[str, str, str, str]]:
    """What it takes of the counters of its pool."""
    driver, pool, _ = device.id
    out: Counter[tuple[str, str, str, str]] = Counter()
    for item in device.device.get("consumesCounters") or ():
        for name, value in (item.get("counters") or {}).items():
            out[driver, pool, item["counterSet"], name] += nanos(value["value"])
    return out


def _tolerated(device: Device, body: Object) -> bool:
    wished = body.get("tolerations") or ()
    return all(
        any(tolerates(item, taint) for item in wished)
        for taint in device.device.get("taints") or ()
        if taint.get("effect") in ("NoSchedule", "NoExecute")
    )


def allocation_of(claim: Claim, chosen: Sequence[Chosen], node: NodeState) -> Object:
    """status.allocation of a claim with these devices."""
    results = []
    for request, device in chosen:
        driver, pool, name = device.id
        result: Object = {"request": request.name, "driver": driver, "pool": pool, "device": name}
        if request.admin:
            result["adminAccess"] = True
        if request.body.get("tolerations"):
            result["tolerations"] = request.body["tolerations"]
        if is_shared(device.device) and not request.admin:
            amounts = taken_by(request.body, device.device) or {}
            result["shareID"] = str(uuid4())
            result["consumedCapacity"] = {key: text for key, (_, text) in amounts.items()}
        for key in ("bindingConditions", "bindingFailureConditions"):
            if device.device.get(key):
                result[key] = device.device[key]
        results.append(result)
    used = {request.name for request, _ in chosen}
    configs: list[Object] = []
    for name in sorted(used):
        for item in claim.configs.get(name, ()):
            configs.append({**item, "source": "FromClass", "requests": [name]})
    for item in claim.obj["spec"]["devices"].get("config") or ():
        named = item.get("requests") or []
        if not named or used & {*named} or {one.partition("/")[0] for one in used} & {*named}:
            configs.append({**item, "source": "FromClaim"})
    devices: Object = {"results": results} | ({"config": configs} if configs else {})
    selector = selector_of([device for _, device in chosen], node)
    return {"devices": devices} | ({"nodeSelector": selector} if selector else {})


def selector_of(devices: Iterable[Device], node: NodeState) -> Object | None:
    """Which nodes can use all of these devices; None for all nodes."""
    expressions: list[Object] = []
    fields: list[Object] = []
    for device in devices:
        where = device.slice["spec"]
        if where.get("perDeviceNodeSelection"):
            where = device.device
        if where.get("nodeName") or device.device.get("bindsToNode"):
            mine = {"key": "metadata.name", "operator": "In", "values": [node.name]}
            return {"nodeSelectorTerms": [{"matchFields": [mine]}]}
        for term in (where.get("nodeSelector") or {}).get("nodeSelectorTerms") or ():
            expressions += [x for x in term.get("matchExpressions") or () if x not in expressions]
            fields += [x for x in term.get("matchFields") or () if x not in fields]
    term = {"matchExpressions": expressions} if expressions else {}
    term |= {"matchFields": fields} if fields else {}
    return {"nodeSelectorTerms": [term]} if term else None
