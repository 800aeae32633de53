"""Policies, pods and namespaces into the classes of this node's pods, change by change. Pure.

A pod that changes is matched against the groups there are (selectors that some policy names, each
once); only classes that look into a group whose members changed are made again, so that all the
kernel sees of it is elements of sets. `rules_of` is the same from nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from ..families import IPV4, Family
from .classes import Class, ClassKey, class_of
from .objects import ALL_PODS, Group, Key, Pod, Policy, Port, Rule

T = TypeVar("T")
DIRECTIONS = ("in", "out")


class State(Struct, frozen=True):
    """All that is to be in the kernel. `targets`: direction -> address -> class name; a pod that
    no policy selects for a direction is not there."""

    targets: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"in": {}, "out": {}})
    classes: Mapping[str, Class] = field(default_factory=dict)


def rules_of(
    policies: Mapping[Key, Policy],
    pods: Mapping[Key, Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> State:
    """The rules for these policies, pods and namespaces (name -> labels)."""
    index = PolicyIndex()
    for name, labels in namespaces.items():
        index.put_namespace(name, labels)
    for key, pod in pods.items():
        index.put_pod(key, pod)
    for key, policy in policies.items():
        index.put_policy(key, policy)
    return index.state()


class PolicyIndex:
    """Tell it what changed, then ask for `state`. A `put` says whether rules may depend on it."""

    def __init__(self, family: Family = IPV4) -> None:
        self.family = family
        self._policies: dict[str, dict[Key, Policy]] = {}
        self._pods: dict[str, dict[Key, Pod]] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._groups: dict[Group, dict[Key, Pod]] = {}
        self._wanted: dict[Key, tuple[ClassKey | None, ClassKey | None]] = {}
        self._made: dict[ClassKey, Class] = {}
        self._dirty_groups: set[Group] = set()
        self._dirty_pods: set[Key] = set()
        self._policies_changed = False

    def put_policy(self, key: Key, policy: Policy | None) -> bool:
        if not _put(self._policies, key, policy):
            return False
        self._policies_changed = True
        self._dirty_pods.update(self._pods.get(key[0], ()))
        return True

    def put_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        if self._namespaces.get(name) == labels:
            return False
        if labels is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = labels
        for key, pod in self._pods.get(name, {}).items():
            self._regroup(key, pod)
        return True

    def put_pod(self, key: Key, pod: Pod | None) -> bool:
        if not _put(self._pods, key, pod):
            return False
        self._dirty_pods.add(key)
        self._regroup(key, pod)
        return True

    def _regroup(self, key: Key, pod: Pod | None) -> None:
        for group, members in self._groups.items():
            old = members.get(key)
            new = pod if pod is not None and self._belongs(pod, group) else None
            if old == new:
                continue
            if new is None:
                del members[key]
            else:
                members[key] = new
            # Other labels of a member concern nobody.
            if old is None or new is None or (old.ip, old.ports) != (new.ip, new.ports):
                self._dirty_groups.add(group)

    def _belongs(self, pod: Pod, group: Group) -> bool:
        if group.namespace:
            return pod.namespace == group.namespace and group.pods.matches(pod.labels)
        labels = self._namespaces.get(pod.namespace)
        return (
            labels is not None
            and group.namespaces.matches(labels)
            and group.pods.matches(pod.labels)
        )

    def state(self) -> State:
        if self._policies_changed:
            self._policies_changed = False
            self._gather_groups()
        for changed in self._dirty_pods:
            self._classify(changed)
        self._dirty_pods.clear()
        used = {key for pair in self._wanted.values() for key in pair if key is not None}
        stale = self._dirty_groups
        for key in self._made.keys() - used:
            del self._made[key]
        for key in used:
            if key not in self._made or (stale and not stale.isdisjoint(key.groups)):
                self._made[key] = class_of(key, self._members, self.family)
        self._dirty_groups.clear()
        return self._assemble()

    def _assemble(self) -> State:
        targets: dict[str, dict[str, str]] = {direction: {} for direction in DIRECTIONS}
        for pod_key, pair in self._wanted.items():
            ip = self._pods[pod_key[0]][pod_key].ip
            for key in pair:
                if key is not None:
                    targets[key.direction][ip] = self._made[key].name
        return State(targets, {item.name: item for item in self._made.values()})

    def _gather_groups(self) -> None:
        wanted: set[Group] = set()
        for policies in self._policies.values():
            for policy in policies.values():
                for rule in (*(policy.ingress or ()), *(policy.egress or ())):
                    wanted.update(rule.groups)
                    if rule.names_anybody:
                        wanted.add(ALL_PODS)
        for group in self._groups.keys() - wanted:
            del self._groups[group]
        for group in wanted - self._groups.keys():
            spaces = [group.namespace] if group.namespace else [*self._pods]
            self._groups[group] = {
                key: pod
                for space in spaces
                for key, pod in self._pods.get(space, {}).items()
                if self._belongs(pod, group)
            }
            self._dirty_groups.add(group)

    def _members(self, group: Group) -> Collection[Pod]:
        return self._groups[group].values()

    def _classify(self, key: Key) -> None:
        """Which class a pod of this node is of, per direction."""
        pod = self._pods.get(key[0], {}).get(key)
        self._wanted.pop(key, None)
        if pod is None or not pod.local:
            return
        chosen = [
            policy
            for policy in self._policies.get(key[0], {}).values()
            if policy.pods.matches(pod.labels)
        ]
        into, out = (_class_key(direction, chosen, pod) for direction in DIRECTIONS)
        if into is not None or out is not None:
            self._wanted[key] = into, out


def _put(by_namespace: dict[str, dict[Key, T]], key: Key, item: T | None) -> bool:
    """Keep what is at `key`, or nothing; a namespace with nothing is forgotten. Is it new?"""
    found = by_namespace.get(key[0], {})
    if found.get(key) == item:
        return False
    if item is not None:
        by_namespace.setdefault(key[0], found)[key] = item
    elif len(found) > 1:
        del found[key]
    else:
        del by_namespace[key[0]]
    return True


def _class_key(direction: str, policies: Iterable[Policy], pod: Pod) -> ClassKey | None:
    found = [given for item in policies if (given := item.rules(direction)) is not None]
    if not found:
        return None
    rules = {rule for given in found for rule in given}
    if direction == "in":
        rules = {item for rule in rules if (item := _resolve(rule, pod)) is not None}
    return ClassKey(direction, tuple(sorted(rules, key=str)))


def _resolve(rule: Rule, pod: Pod) -> Rule | None:
    """Names of ports in an ingress rule are the selected pod's own."""
    if not any(port.name for port in rule.ports):
        return rule
    ports = []
    for port in rule.ports:
        number = pod.number(port) if port.name else 0
        if number:
            ports.append(Port(port.protocol, number, number))
        elif not port.name:
            ports.append(port)
    return replace(rule, ports=tuple(ports)) if ports else None
