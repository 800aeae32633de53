"""Pods that wait for a node: ready now, waiting out a back-off, or waiting for a change. Pure.

Ready pods leave by priority, then age. A pod no node fits waits until something happens that could
help (`wake`), and then at least its back-off since the last attempt: 1 s, doubling to 10 s, as
upstream's. What could help is asked once per group of like pods, so an event costs the number of
groups, not of pods. Who has waited `PARKED_S` is tried whatever happened, in case an event was
missed. Each pod is in exactly one place; the size is the number of pending pods.

When nobody else is ready, those who were woken need not wait out their back-off (KEP-5142): one of
a group after the other, until one of them fails again. So an event costs a try of each group, and
one more for each pod it helped, however many wait. Back-offs after errors are always waited out.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Hashable
from itertools import count
from typing import Any

from msgspec import Struct

INITIAL_BACKOFF_S = 1.0
MAX_BACKOFF_S = 10.0
PARKED_S = 300.0
"""Upstream's DefaultPodMaxInUnschedulablePodsDuration."""

ACTIVE, BACKOFF, UNSCHEDULABLE = "active", "backoff", "unschedulable"
POD_CAME, POD_CHANGED = "UnschedulablePodAdd", "UnschedulablePodUpdate"
FAILED, BACKOFF_ENDED, TIMEOUT = "ScheduleAttemptFailure", "BackoffComplete", "UnschedulableTimeout"
EARLY = "PopFromBackoffQ"


class Waiting(Struct):
    """One pod in the queue."""

    uid: str
    priority: int
    arrived_s: float
    number: int
    """Which of its time it is."""
    attempts: int = 0
    not_before_s: float = 0.0
    parked: bool = False
    """Waits for a change."""
    parked_s: float = 0.0
    group: Hashable = None
    missed_wake: bool = False
    """A change came while the pod was being tried: it may have been too late to count."""
    trying: bool = False
    woken: bool = False
    """Waits out its back-off alone: a change may have helped."""


class Queue:
    """Keyed by pod uid. All times are monotonic seconds given by the caller."""

    def __init__(
        self, first_backoff_s: float = INITIAL_BACKOFF_S, most_backoff_s: float = MAX_BACKOFF_S
    ) -> None:
        self._first_s, self._most_s = first_backoff_s, most_backoff_s
        self._pods: dict[str, Waiting] = {}
        self._ready: list[tuple[int, float, int, str]] = []
        self._numbers = count()
        self._delayed: list[tuple[float, str]] = []
        self._groups: dict[Hashable, dict[str, Waiting]] = {}
        self._parked: dict[str, Waiting] = {}
        """In the order of parking."""
        self._trying: dict[str, Waiting] = {}
        self._woken: dict[Hashable, dict[str, Waiting]] = {}
        """In the order of waking."""
        self._early: dict[Hashable, None] = {}
        """Groups of `_woken` of which one may be tried before its back-off ends."""
        self.incoming: Counter[tuple[str, str]] = Counter()
        """How many pods came to which part, and by what: scheduler_queue_incoming_pods_total."""

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, uid: str) -> bool:
        return uid in self._pods

    @property
    def has_waiting(self) -> bool:
        """May a change help anybody?"""
        return bool(self._parked or self._woken)

    @property
    def sizes(self) -> dict[str, int]:
        """scheduler_pending_pods by queue."""
        now_delayed = sum(1 for item in self._pods.values() if self._is_delayed(item))
        return {
            ACTIVE: len(self._pods) - now_delayed - len(self._parked),
            BACKOFF: now_delayed,
            UNSCHEDULABLE: len(self._parked),
        }

    @staticmethod
    def _is_delayed(item: Waiting) -> bool:
        return not item.parked and not item.trying and item.not_before_s > item.arrived_s

    def add(self, uid: str, priority: int, now_s: float) -> None:
        """A new pod, or one whose spec changed: it may be tried at once."""
        item = self._pods.get(uid)
        if item is None:
            item = self._pods[uid] = Waiting(uid, priority, now_s, next(self._numbers))
            self.incoming[ACTIVE, POD_CAME] += 1
        elif not item.parked:
            return
        else:
            self.incoming[ACTIVE, POD_CHANGED] += 1
        self._leave_group(item)
        self._push(item)

    def tried(self, uid: str) -> tuple[int, float]:
        """(how often a pod was tried, when it came)."""
        item = self._pods[uid]
        return item.attempts, item.arrived_s

    def remove(self, uid: str) -> None:
        item = self._pods.pop(uid, None)
        if item is not None:
            self._leave_group(item)
            self._end_wait(item)
            self._trying.pop(uid, None)

    def _leave_group(self, item: Waiting) -> None:
        if not item.parked:
            return
        item.parked = False
        del self._parked[item.uid]
        members = self._groups[item.group]
        del members[item.uid]
        if not members:
            del self._groups[item.group]

    def _push(self, item: Waiting) -> None:
        self._end_wait(item)
        heapq.heappush(self._ready, (-item.priority, item.arrived_s, item.number, item.uid))

    def pop(self, now_s: float) -> str | None:
        """The next pod to try; it stays in the queue as being tried."""
        self._release(now_s)
        while self._ready:
            item = self._pods.get(heapq.heappop(self._ready)[-1])
            if item is not None and not item.parked and not item.trying:
                return self._try(item)
        return self._pop_early()

    def _try(self, item: Waiting) -> str:
        self._end_wait(item)
        item.trying, item.missed_wake = True, False
        self._trying[item.uid] = item
        item.attempts += 1
        return item.uid

    def _pop_early(self) -> str | None:
        """Nobody is ready: one who was woken and waits out its back-off."""
        while self._early:
            group = next(iter(self._early))
            if waiting := self._woken.get(group):
                self.incoming[ACTIVE, EARLY] += 1
                return self._try(next(iter(waiting.values())))
            del self._early[group]
        return None

    def _end_wait(self, item: Waiting) -> None:
        if not item.woken:
            return
        item.woken = False
        members = self._woken[item.group]
        del members[item.uid]
        if not members:
            del self._woken[item.group]

    def _release(self, now_s: float) -> None:
        while self._delayed and self._delayed[0][0] <= now_s:
            _, uid = heapq.heappop(self._delayed)
            item = self._pods.get(uid)
            waits = item is not None and not item.parked and not item.trying
            if item is not None and waits and item.not_before_s <= now_s:
                self.incoming[ACTIVE, BACKOFF_ENDED] += 1
                self._push(item)
        while self._parked:
            oldest = next(iter(self._parked.values()))
            if oldest.parked_s + PARKED_S > now_s:
                break
            self._unpark(oldest, now_s, TIMEOUT)

    def park(self, uid: str, now_s: float, group: Hashable = None) -> None:
        """No node fits: wait for a change, and for the back-off. `wake` asks about `group`."""
        item = self._settle(uid, now_s)
        if item is not None:
            item.parked, item.parked_s, item.group = True, now_s, group
            self._parked[uid] = item
            self._groups.setdefault(group, {})[uid] = item
            # What kept this one keeps the others of the group, until something changes.
            self._early.pop(group, None)
            if item.missed_wake:
                self._unpark(item, now_s, FAILED)
            else:
                self.incoming[UNSCHEDULABLE, FAILED] += 1

    def retry(self, uid: str, now_s: float) -> None:
        """Something else went wrong: try again after the back-off."""
        item = self._settle(uid, now_s)
        if item is not None:
            self.incoming[BACKOFF, FAILED] += 1
            heapq.heappush(self._delayed, (item.not_before_s, uid))

    def _settle(self, uid: str, now_s: float) -> Waiting | None:
        item = self._pods.get(uid)
        if item is not None:
            self._trying.pop(uid, None)
            self._leave_group(item)
            item.trying = False
            item.not_before_s = now_s + backoff_s(item.attempts, self._first_s, self._most_s)
        return item

    def wake(
        self, now_s: float, helps: Callable[[Any], bool] = lambda _: True, event: str = ""
    ) -> bool:
        """Something changed: the parked pods of groups it helps may be tried. Were there any?
        `event` is upstream's name of the change."""
        woken = [group for group in {**self._groups, **self._woken} if helps(group)]
        for group in woken:
            for item in [*self._groups.get(group, {}).values()]:
                self._unpark(item, now_s, event)
            if group in self._woken:
                self._early[group] = None
        for item in self._trying.values():
            item.missed_wake = True
        return bool(woken)

    def _unpark(self, item: Waiting, now_s: float, event: str) -> None:
        self._leave_group(item)
        if item.not_before_s <= now_s:
            self.incoming[ACTIVE, event] += 1
            self._push(item)
        else:
            self.incoming[BACKOFF, event] += 1
            item.woken = True
            self._woken.setdefault(item.group, {})[item.uid] = item
            heapq.heappush(self._delayed, (item.not_before_s, item.uid))

    def next_due_s(self) -> float | None:
        """When the next back-off, or the longest wait, ends; None when nothing waits for time."""
        due = [self._delayed[0][0]] if self._delayed else []
        if self._parked:
            due.append(next(iter(self._parked.values())).parked_s + PARKED_S)
        return min(due, default=None)


def backoff_s(
    attempts: int, first_s: float = INITIAL_BACKOFF_S, most_s: float = MAX_BACKOFF_S
) -> float:
    return min(most_s, first_s * 2.0 ** min(attempts - 1, 16))
