"""From one durable change to all who watch: found by index, classified once, delivered in rounds.

Watchers of the same namespace and selection are one `Group`. A change is looked at once per group
it may concern: groups whose selection fixes a name, field or label are found by that value, so that
a node agent's watch of its own pods costs the writers of other pods nothing. What a group is to
get waits in `pending`; a round hands it, as one shared `Batch`, to every member. Small groups get
it as soon as the store's batch of writes is published; larger ones by the `Pump`: the `FIRST`
members before the writer is answered, then work worth `SLICE` members in a turn of the loop, so
that writers are served between slices however many watch and however much there is to tell. What
happens meanwhile is for the next rounds, `ROUND_BYTES` in each: the more there is to do, the
cheaper an event gets.

Bounds: what waits in `pending` doubles the slices again and again, so that writers who go on are
slowed to what the watchers can be told: some thousands of events at most. A member that does not
read is cut off by its own queue's bound (`watching.QUEUE_CHANGES`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from sampan.api.errors import Object

from .changes import Change, labels_of
from .selection import NAME, NAMESPACE, Selection

DIRECT = 4
"""Members that are told in the writer's turn: components in this process, and a client or two."""
SLICE = 8
"""Members told in one turn of the loop: each costs an encryption and a write, and a write waits for
some four turns. With 32 it waited twice as long, with 3 the loop's own work grew
(bench/watches.py)."""
FIRST = 64
"""Members told before the writers are answered, where nobody else waits to be told: a client that
writes again as soon as it may does not overtake what the watchers get (half their wait, when
writer and watchers share a machine), for some half a millisecond."""
BYTES_EACH = 8 << 10
"""Bytes that cost about as much as telling a member at all: encrypting them, and their way through
the kernel."""
ROUND_BYTES = 64 << 10
"""What a round tells each member, so that no turn is long: several times the price of a message."""
LAG = 512
"""Each so many events a group is behind double its slice."""


class Entry(NamedTuple):
    """One event of a watch."""

    kind: str
    """ADDED, MODIFIED or DELETED, as the selection sees it."""
    change: Change


class Batch:
    """Events delivered together; shared by all members of a group."""

    __slots__ = ("entries", "made", "price")

    def __init__(self, entries: list[Entry], size: int = 0) -> None:
        self.entries = entries
        self.price = 1 + size // BYTES_EACH
        """What telling one member costs, in messages."""
        self.made: dict[Hashable, bytes] = {}
        """Encoded forms, made when first asked for."""

    def after(self, revision: int) -> Batch:
        """The batch without what happened up to `revision`."""
        entries = self.entries
        if not entries or entries[0].change.revision > revision:
            return self
        return Batch([entry for entry in entries if entry.change.revision > revision])


class Member(Protocol):
    def offer(self, batch: Batch) -> None:
        """Queue a batch. Must not raise."""
        ...


class Group:
    """The watchers of one namespace ("" is all) and selection."""

    __slots__ = ("_filtered", "_left", "_round", "_suffix", "members", "pending", "queued",
                 "selection")  # fmt: skip

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.members: dict[Member, None] = {}
        self.pending: list[Entry] = []
        self.queued = False
        """Is it with the pump?"""
        self._round: Batch | None = None
        self._left: Iterator[Member] = iter(())
        name = selection.name
        # The commonest selector, one object by name, is decided without looking at the object.
        self._suffix = f"/{name}" if name else ""
        fields = selection.fields
        by_name = bool(name) and selection.labels is None and fields and len(fields.terms) == 1
        self._filtered = not (selection.everything or by_name)

    @property
    def idle(self) -> bool:
        """Has every member been offered all there is?"""
        return not self.pending and self._round is None

    def kind_of(self, change: Change) -> str:
        """The event's type as this selection sees it; "" when it does not. An object that comes to
        be selected is added, one that no longer is, is deleted."""
        if self._suffix and not change.key.endswith(self._suffix):
            return ""
        if not self._filtered:
            if change.after is None:
                return "DELETED"
            return "ADDED" if change.before is None else "MODIFIED"
        matches = self.selection.matches
        previous, obj = change.previous, change.obj
        was = previous is not None and matches(previous)
        if obj is not None and matches(obj):
            return "MODIFIED" if was else "ADDED"
        return "DELETED" if was else ""

    def tell(self) -> None:
        """Tell the few members there are all there is."""
        while self.pending:
            batch = self._next_round()
            for member in tuple(self.members):
                member.offer(batch)

    def deliver(self, left: int) -> int:
        """Tell members until that costs `left` messages; what of it is over. The round ended when
        something is."""
        batch = self._round
        if batch is None:
            batch = self._round = self._next_round()
            self._left = iter(tuple(self.members))
        for member in self._left:
            member.offer(batch)
            left -= batch.price
            if left <= 0:
                return 0
        self._round = None
        self._left = iter(())
        return left

    def _next_round(self) -> Batch:
        """The first of what is pending, up to `ROUND_BYTES`, and one event at least."""
        pending = self.pending
        size = 0
        for count, entry in enumerate(pending):
            if size > ROUND_BYTES:
                self.pending = pending[count:]
                return Batch(pending[:count], size)
            size += entry.change.size
        self.pending = []
        return Batch(pending, size)


class Pump:
    """Delivers: to small groups what one batch of writes brought, to large ones a slice in each
    turn of the loop."""

    def __init__(self) -> None:
        self._groups: deque[Group] = deque()
        self._small: list[Group] = []
        """With something pending, until all of the batch of writes is published."""

    def tell_soon(self, group: Group) -> None:
        """Called with each entry that is added to the group's pending ones."""
        if len(group.pending) == 1:
            self._small.append(group)

    def tell(self) -> None:
        """All of a batch of writes is published: each small group gets its part in one."""
        groups, self._small = self._small, []
        for group in groups:
            group.tell()

    def add(self, group: Group) -> None:
        if group.queued:
            return
        group.queued = True
        self._groups.append(group)
        if len(self._groups) == 1:
            # Called before the writers, whose answers are only about to be decided.
            asyncio.get_running_loop().call_soon(self._run, FIRST)

    def _run(self, left: int) -> None:
        groups = self._groups
        while groups and left > 0:
            group = groups.popleft()
            left = min(left, group.deliver(left << len(group.pending) // LAG))
            if group.idle:
                group.queued = False
            else:
                # A turn each: a few watchers do not wait for the thousands of another group.
                groups.append(group)
        if groups:
            asyncio.get_running_loop().call_soon(self._run, SLICE)


class Source(NamedTuple):
    """What a group is found by."""

    name: str
    pairs: Callable[[Object], Mapping[str, str]] | None
    """Where the value is, None for the object's name."""


NAME_SOURCE = Source(NAME, None)


class Bucket:
    """The groups of one namespace."""

    __slots__ = ("found", "groups", "plain")

    def __init__(self) -> None:
        self.groups: dict[Hashable, Group] = {}
        self.plain: list[Group] = []
        """Groups that have to look at every change."""
        self.found: dict[Source, dict[str, list[Group]]] = {}


class Fanout:
    """The watchers of one collection."""

    def __init__(self, pump: Pump, *, namespaced: bool) -> None:
        self._pump = pump
        self._namespaced = namespaced
        self._buckets: dict[str, Bucket] = {}

    def __bool__(self) -> bool:
        return bool(self._buckets)

    def join(self, selection: Selection, namespace: str, member: Member) -> Group:
        bucket = self._buckets.setdefault(namespace, Bucket())
        key = _key(selection)
        group = bucket.groups.get(key)
        if group is None:
            group = bucket.groups[key] = Group(selection)
            found = _index_of(selection)
            if found is None:
                bucket.plain.append(group)
            else:
                source, value = found
                bucket.found.setdefault(source, {}).setdefault(value, []).append(group)
        group.members[member] = None
        return group

    def leave(self, group: Group, namespace: str, member: Member) -> None:
        if group.members.pop(member, group) is group or group.members:
            return
        bucket = self._buckets[namespace]
        selection = group.selection
        del bucket.groups[_key(selection)]
        found = _index_of(selection)
        if found is None:
            bucket.plain.remove(group)
        else:
            source, value = found
            values = bucket.found[source]
            values[value].remove(group)
            if not values[value]:
                del values[value]
            if not values:
                del bucket.found[source]
        if not bucket.groups:
            del self._buckets[namespace]

    def publish(self, change: Change, namespace: str) -> None:
        """Give a change to the groups it concerns."""
        buckets = self._buckets
        for name in ("", namespace) if self._namespaced and namespace else ("",):
            bucket = buckets.get(name)
            if bucket is not None:
                self._publish(bucket, change)

    def _publish(self, bucket: Bucket, change: Change) -> None:
        for group in tuple(bucket.plain):
            self._offer(group, change)
        for source, values in tuple(bucket.found.items()):
            for value in _values(source, change):
                for group in tuple(values.get(value, ())):
                    self._offer(group, change)

    def _offer(self, group: Group, change: Change) -> None:
        kind = group.kind_of(change)
        if not kind:
            return
        group.pending.append(Entry(kind, change))
        if len(group.members) <= DIRECT and not group.queued:
            self._pump.tell_soon(group)
        else:
            self._pump.add(group)


def _values(source: Source, change: Change) -> Iterable[str]:
    """What the object has there, before and after the change."""
    pairs = source.pairs
    if pairs is None:
        return (change.key.rpartition("/")[2],)
    out: dict[str, None] = {}
    for obj in (change.previous, change.obj):
        if obj is not None and (value := pairs(obj).get(source.name)) is not None:
            out[value] = None
    return out


def _key(selection: Selection) -> Hashable:
    view = selection.view
    return (selection.labels, selection.fields, view and (view.group, view.version))


def _index_of(selection: Selection) -> tuple[Source, str] | None:
    """A value every selected object has, to find the group by."""
    if selection.name:
        return NAME_SOURCE, selection.name
    if selection.view is not None:
        # Its fields and labels are not those of what is stored.
        return None
    for name, value in selection.fields.equals if selection.fields is not None else ():
        if name != NAMESPACE:
            return Source(name, selection.resource.rules.fields), value
    for name, value in selection.labels.equals if selection.labels is not None else ():
        return Source(name, labels_of), value
    return None
