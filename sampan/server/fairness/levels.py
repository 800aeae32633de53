"""Priority levels: seats, queues and virtual time. Pure but for the entries it is given.

A level may always fill the seats it does not lend; what it lends goes into a pool that any level
draws from up to its borrowing limit, so seats are never idle while requests wait, and a lender gets
its own back as requests end (KEP-1040 borrowing, without the ten-second adjustment periods).

Bounds: `queueLengthLimit` entries in each of `queues` queues of a level; above that: 429. A level
without queues refuses what finds no seat; what finds one may still have to wait for its turn, and
no more of those wait than the level has seats.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from msgspec import Struct, field

from sampan.api.errors import Object

from ..exchange import Attributes

UNLIMITED = 1 << 30
SEATS = 600
"""Upstream's 400 reading and 200 mutating requests in flight, which it shares out as one."""


class Entry(Struct, eq=False):
    """One request that waits for its turn."""

    flow: str
    schema: str
    seats: int
    """0 for what is answered at once and holds none."""
    arrived: float
    run: Callable[[], None]
    """Called when its turn comes."""
    attributes: Attributes
    done: Any
    """The future that is set behind `run`."""
    queue: Queue | None = None
    gone: bool = False
    """Its client left, or it waited too long."""


class Queue(Struct, eq=False):
    """One queue of a level."""

    index: int
    waiting: deque[Entry] = field(default_factory=deque)
    virtual: float = 0.0
    """Virtual time at which its next request starts."""
    executing: int = 0
    seats: int = 0
    """In use by requests that came through this queue."""


class Level(Struct, eq=False):
    """One priority level."""

    name: str
    uid: str = ""
    exempt: bool = False
    queues: tuple[Queue, ...] = ()
    """None: a request that finds no seat is refused."""
    lane: Queue = field(default_factory=lambda: Queue(0))
    """Where those that do find one wait for the next turn of the loop, if there are no queues."""
    hand: int = 1
    length: int = 0
    nominal: int = 0
    lendable: int = 0
    most: int = UNLIMITED
    """Seats it may use when it borrows."""
    executing: int = 0
    """Requests that hold seats."""
    running: Counter[str] = field(default_factory=Counter)
    """The same, by their schemas."""
    seats: int = 0
    waiting: int = 0
    virtual: float = 0.0
    """Virtual time among levels."""
    inner: float = 0.0
    """Virtual time among its queues: the start of what was served last."""

    @property
    def least(self) -> int:
        """Seats nobody can borrow from it."""
        return self.nominal - self.lendable

    @property
    def upper(self) -> int:
        """Seats it can have at most, whoever lends."""
        return min(self.most, SEATS)

    def queued(self) -> Counter[str]:
        """Requests that wait, by their schemas."""
        lines = chain(self.queues, (self.lane,))
        return Counter(item.schema for line in lines for item in line.waiting if not item.gone)

    @property
    def borrowed(self) -> int:
        """What it uses of the pool."""
        return max(0, self.seats - self.least)


class Pool:
    """The seats that levels lend each other."""

    def __init__(self, levels: Iterable[Level]) -> None:
        self.levels = tuple(level for level in levels if not level.exempt)
        self.size = sum(level.lendable for level in self.levels)

    def fits(self, level: Level, seats: int) -> bool:
        """May the level use more seats now?"""
        if level.exempt or not seats:
            return True
        wanted = level.seats + seats
        if wanted <= level.least or level.seats == 0:
            return True
        return wanted <= self.limit(level)

    def limit(self, level: Level) -> int:
        """Seats the level may use now."""
        used = sum(other.borrowed for other in self.levels if other is not level)
        return min(level.most, level.least + self.size - used)


def level_of(obj: Object, old: Level | None) -> Level:
    """A level from its PriorityLevelConfiguration. Its queues, and with them those that wait,
    stay while their number does."""
    spec, metadata = obj["spec"], obj["metadata"]
    level = Level(metadata["name"], metadata.get("uid") or "")
    level.exempt = spec.get("type") == "Exempt"
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing")
    if queuing and not level.exempt:
        count = queuing.get("queues") or 64
        level.queues = tuple(map(Queue, range(count)))
        level.hand = min(queuing.get("handSize") or 8, count)
        level.length = queuing.get("queueLengthLimit") or 50
    if old is not None:
        level.executing, level.seats, level.waiting = old.executing, old.seats, old.waiting
        level.virtual, level.inner, level.lane = old.virtual, old.inner, old.lane
        level.running = old.running
        more = len(level.queues) - len(old.queues)
        if more >= 0:
            level.queues = (*old.queues, *level.queues[len(old.queues) :])
        elif old.waiting:
            # Fewer queues count once those in use have emptied.
            level.queues, level.hand = old.queues, min(old.hand, len(old.queues))
            level.length = level.length or old.length
    return level


def share_out(levels: Iterable[Level], objects: dict[str, Object], total: int) -> None:
    """Give each level its seats: shares of the total, what it lends, what it may borrow."""
    shares = {}
    for level in levels:
        spec = objects.get(level.name, {}).get("spec") or {}
        part = spec.get("exempt" if level.exempt else "limited") or {}
        shares[level.name] = (level, part, part.get("nominalConcurrencyShares") or 0)
    whole = sum(share for _, _, share in shares.values())
    for level, part, share in shares.values():
        level.nominal = math.ceil(total * share / whole) if whole else 0
        level.lendable = round(level.nominal * (part.get("lendablePercent") or 0) / 100)
        limit = part.get("borrowingLimitPercent")
        level.most = UNLIMITED
        if limit is not None:
            level.most = level.nominal + round(level.nominal * limit / 100)


# Queues.


def deal(flow: int, queues: int, hand: int) -> list[int]:
    """A hand of distinct queues for a flow: shuffle sharding, so that two flows rarely share all
    of theirs (apiserver util/shufflesharding)."""
    dealt: list[int] = []
    for position in range(hand):
        flow, card = divmod(flow, queues - position)
        for other in sorted(dealt):
            if other <= card:
                card += 1
        dealt.append(card)
    return dealt


def enqueue(level: Level, entry: Entry, flow: int, pool: Pool) -> bool:
    """Put an entry into the least loaded queue of its hand; False when that one is full, and where
    a level without queues has no seat for it."""
    if not level.queues:
        taken = level.seats + level.waiting
        if not pool.fits(level, entry.seats) or (level.waiting and taken >= level.nominal):
            return False
        return _join(level, level.lane, entry)
    found = min(
        (level.queues[index] for index in deal(flow, len(level.queues), level.hand)),
        key=lambda queue: len(queue.waiting) + queue.seats,
    )
    if len(found.waiting) >= level.length:
        return False
    return _join(level, found, entry)


def _join(level: Level, queue: Queue, entry: Entry) -> bool:
    if not queue.waiting:
        # A queue that was idle has no credit for it.
        queue.virtual = max(queue.virtual, level.inner)
    entry.queue = queue
    queue.waiting.append(entry)
    level.waiting += 1
    return True


def pick(levels: Iterable[Level], pool: Pool) -> tuple[Level, Queue, Entry] | None:
    """The next request to serve, taken from its queue; None when none can be."""
    best: tuple[float, Level, Queue] | None = None
    for level in levels:
        if not level.waiting or (best is not None and level.virtual >= best[0]):
            continue
        queue = _first(level, pool)
        if queue is not None:
            best = (level.virtual, level, queue)
    if best is None:
        return None
    _, level, queue = best
    entry = queue.waiting.popleft()
    level.waiting -= 1
    level.inner = queue.virtual
    return level, queue, entry


def _first(level: Level, pool: Pool) -> Queue | None:
    """The queue whose turn it is, of those whose first request finds a seat."""
    best: Queue | None = None
    for queue in chain(level.queues, (level.lane,)):
        waiting = queue.waiting
        while waiting and waiting[0].gone:
            waiting.popleft()
            level.waiting -= 1
        earlier = waiting and (best is None or queue.virtual < best.virtual)
        if earlier and pool.fits(level, waiting[0].seats):
            best = queue
    return best


def charge(level: Level, queue: Queue, seconds: float) -> None:
    """What a request has cost: its queue and its level come later by that."""
    queue.virtual += seconds
    level.virtual += seconds / max(level.nominal, 1)
