"""Pods that wait for a node: ready now, waiting out a back-off, or waiting for a change. Pure.

Ready pods leave by priority, then age. A pod no node fits waits until something happens that could
help (`wake`), and then at least its back-off since the last attempt: 1 s, doubling to 10 s, as
upstream's. Each pod is in exactly one place; the size is the number of pending pods.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

INITIAL_BACKOFF_S = 1.0
MAX_BACKOFF_S = 10.0


@dataclass(slots=True)
class Waiting:
    """One pod in the queue."""

    uid: str
    priority: int
    arrived_s: float
    attempts: int = 0
    not_before_s: float = 0.0
    parked: bool = False
    """Waits for a change."""
    missed_wake: bool = False
    """A change came while the pod was being tried: it may have been too late to count."""
    trying: bool = False


class Queue:
    """Keyed by pod uid. All times are monotonic seconds given by the caller."""

    def __init__(self) -> None:
        self._pods: dict[str, Waiting] = {}
        self._ready: list[tuple[int, float, str]] = []
        self._delayed: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, uid: str) -> bool:
        return uid in self._pods

    def add(self, uid: str, priority: int, now_s: float) -> None:
        """A new pod, or one whose spec changed: it may be tried at once."""
        item = self._pods.get(uid)
        if item is None:
            item = self._pods[uid] = Waiting(uid, priority, now_s)
        elif not item.parked:
            return
        item.parked = False
        self._push(item)

    def remove(self, uid: str) -> None:
        self._pods.pop(uid, None)

    def _push(self, item: Waiting) -> None:
        heapq.heappush(self._ready, (-item.priority, item.arrived_s, item.uid))

    def pop(self, now_s: float) -> str | None:
        """The next pod to try; it stays in the queue as being tried."""
        self._release(now_s)
        while self._ready:
            _, _, uid = heapq.heappop(self._ready)
            item = self._pods.get(uid)
            if item is not None and not item.parked and not item.trying:
                item.trying, item.missed_wake = True, False
                item.attempts += 1
                return uid
        return None

    def _release(self, now_s: float) -> None:
        while self._delayed and self._delayed[0][0] <= now_s:
            _, uid = heapq.heappop(self._delayed)
            item = self._pods.get(uid)
            if item is not None and not item.parked and item.not_before_s <= now_s:
                self._push(item)

    def park(self, uid: str, now_s: float) -> None:
        """No node fits: wait for a change, and for the back-off."""
        item = self._pods.get(uid)
        if item is not None:
            item.trying, item.parked = False, True
            item.not_before_s = now_s + backoff_s(item.attempts)
            if item.missed_wake:
                self._unpark(item, now_s)

    def retry(self, uid: str, now_s: float) -> None:
        """Something else went wrong: try again after the back-off."""
        item = self._pods.get(uid)
        if item is not None:
            item.trying, item.parked = False, False
            item.not_before_s = now_s + backoff_s(item.attempts)
            heapq.heappush(self._delayed, (item.not_before_s, uid))

    def wake(self, now_s: float) -> None:
        """Something changed that may let parked pods fit."""
        for item in self._pods.values():
            if item.parked:
                self._unpark(item, now_s)
            elif item.trying:
                item.missed_wake = True

    def _unpark(self, item: Waiting, now_s: float) -> None:
        item.parked = False
        if item.not_before_s <= now_s:
            self._push(item)
        else:
            heapq.heappush(self._delayed, (item.not_before_s, item.uid))

    def next_due_s(self) -> float | None:
        """When the next back-off ends; None when nothing waits for time."""
        return self._delayed[0][0] if self._delayed else None


def backoff_s(attempts: int) -> float:
    return min(MAX_BACKOFF_S, INITIAL_BACKOFF_S * 2.0 ** min(attempts - 1, 16))
