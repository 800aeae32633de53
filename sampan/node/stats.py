"""What the node and its containers use, read from the kernel when somebody asks.

Nothing is measured while nobody asks. A rate needs two readings: the one before, if it is between
`RATE_MIN_S` and `RATE_MAX_S` old; else a second one is made `PAUSE_S` later. Questions that come
together share one reading, which serves for `FRESH_S`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, field

from sampan.aio.clock import Clock
from sampan.linux.cgroups import Usage

from .facts import MEMINFO, Disk, meminfo

RATE_MIN_S = 5.0
RATE_MAX_S = 120.0
PAUSE_S = 1.0
FRESH_S = 3.0


class ContainerUsage(Struct, frozen=True):
    name: str
    id: str
    image: str
    started_at: float
    usage: Usage


class Traffic(Struct, frozen=True):
    """What a pod's interface has carried, seen from the pod."""

    received_bytes: int = 0
    received_packets: int = 0
    received_errors: int = 0
    received_dropped: int = 0
    sent_bytes: int = 0
    sent_packets: int = 0
    sent_errors: int = 0
    sent_dropped: int = 0


class PodUsage(Struct, frozen=True):
    uid: str
    name: str
    namespace: str
    started_at: float
    usage: Usage
    containers: tuple[ContainerUsage, ...] = ()
    traffic: Traffic | None = None
    """None on the node's own network."""
    cgroup: str = ""


class Reading(Struct, frozen=True):
    """All of it at one moment; times are seconds since the epoch."""

    at: float
    node: Usage
    available_bytes: int
    disk: Disk
    pods: tuple[PodUsage, ...] = ()
    booted_at: float = 0.0
    processes: int = 0
    processes_max: int = 0

    def counters(self) -> dict[str, int]:
        """Processor time by what used it: "" is the node."""
        out = {"": self.node.cpu_ns}
        for pod in self.pods:
            out[pod.uid] = pod.usage.cpu_ns
            out |= {container.id: container.usage.cpu_ns for container in pod.containers}
        return out


class Measured(Struct, frozen=True):
    """A reading with rates."""

    reading: Reading
    nano_cores: dict[str, int] = field(default_factory=dict)
    """By pod uid and container id; "" is the node. What just came has none."""
    window_s: float = 0.0
    """What the rates are over."""


def rates(old: Reading, new: Reading) -> dict[str, int]:
    """Nanoseconds of processor time per second between two readings."""
    seconds = new.at - old.at
    if seconds <= 0:
        return {}
    before = old.counters()
    return {
        key: max(0, int((value - before[key]) / seconds))
        for key, value in new.counters().items()
        if key in before
    }


class Stats:
    """`read` is called in a thread; it takes milliseconds."""

    def __init__(self, clock: Clock, read: Callable[[], Reading]) -> None:
        self._clock = clock
        self._read = read
        self._last: Measured | None = None
        self._under_way: asyncio.Task[Measured] | None = None

    async def measure(self) -> Measured:
        """A reading that is at most `FRESH_S` old, with rates."""
        last = self._last
        if last is not None and 0 <= self._clock.now() - last.reading.at < FRESH_S:
            return last
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._measure())
            self._under_way.add_done_callback(self._done)
        return await asyncio.shield(self._under_way)

    async def read(self) -> Reading:
        """One reading, without rates."""
        return await asyncio.to_thread(self._read)

    async def _measure(self) -> Measured:
        old = self._last.reading if self._last is not None else None
        new = await self.read()
        if old is None or not RATE_MIN_S <= new.at - old.at <= RATE_MAX_S:
            old = new
            await self._clock.sleep(PAUSE_S)
            new = await self.read()
        return Measured(new, rates(old, new), new.at - old.at)

    def _done(self, task: asyncio.Task[Measured]) -> None:
        self._under_way = None
        if not task.cancelled() and task.exception() is None:
            self._last = task.result()


# Of the machine.

TICKS = os.sysconf("SC_CLK_TCK")


def node_usage(stat: str, sizes: str) -> tuple[Usage, int]:
    """The node's usage and what memory is still to be had, from /proc/stat and /proc/meminfo.

    The working set is what is used without inactive file pages, as kubelet counts it.
    """
    # cpu user nice system idle iowait irq softirq steal guest guest_nice; guest is part of user.
    ticks = [int(word) for word in stat.split("\n", 1)[0].split()[1:]]
    busy = sum(ticks[:3]) + sum(ticks[5:8])
    memory = meminfo(sizes)
    total = memory.get("MemTotal", 0)
    used = total - memory.get("MemFree", 0)
    working = max(0, used - memory.get("Inactive(file)", 0))
    usage = Usage(
        cpu_ns=busy * 1_000_000_000 // TICKS,
        memory_bytes=used,
        working_set_bytes=working,
        rss_bytes=memory.get("AnonPages", 0),
        memory_limit_bytes=total,
    )
    return usage, max(0, total - working)


def read_node() -> tuple[Usage, int]:
    return node_usage(Path("/proc/stat").read_text(), Path(MEMINFO).read_text())


def read_traffic(table: Path = Path("/proc/thread-self/net/dev")) -> dict[str, Traffic]:
    """By interface of this network namespace, turned round: what the node sends there its pod
    receives."""
    found = {}
    for line in table.read_text().splitlines()[2:]:
        name, _, rest = line.partition(":")
        words = [int(word) for word in rest.split()]
        sent, received = words[:4], words[8:12]
        found[name.strip()] = Traffic(*received, *sent)
    return found


def booted_at() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
