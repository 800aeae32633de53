"""CPU manager, policy static: whole processors for containers of Guaranteed pods (KEP-3570). Pure.

A container that asks for a whole number of CPUs in a Guaranteed pod gets as many of its own; all
others share the rest. Processors are taken core by core where the machine tells of cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from sampan.wire.quantity import milli

from .allocation import NotEnough
from .quality import GUARANTEED, qos_class

TOPOLOGY = Path("/sys/devices/system/cpu")


def parse_cpus(text: str) -> frozenset[int]:
    """A list of the kernel's form, "0,2-3". Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            raise ValueError(f"{text!r} is no list of CPUs")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def cpus_text(cpus: Iterable[int]) -> str:
    """In the kernel's form, shortest."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def exclusive(spec: Mapping[str, Any], container: Mapping[str, Any]) -> int:
    """How many CPUs a container has for itself; 0 when it shares."""
    if qos_class(spec) != GUARANTEED or spec.get("resources"):
        return 0
    resources = container.get("resources") or {}
    asked = (resources.get("requests") or {}).get("cpu") or (resources.get("limits") or {}).get(
        "cpu"
    )
    amount = milli(asked) if asked is not None else 0
    return amount // 1000 if amount and amount % 1000 == 0 else 0


def cores(root: Path = TOPOLOGY) -> Mapping[int, int]:
    """CPU -> number of its core; each its own where the machine does not tell."""
    out = {}
    for folder in root.glob("cpu[0-9]*"):
        number = int(folder.name[3:])
        try:
            siblings = parse_cpus((folder / "topology/thread_siblings_list").read_text())
            out[number] = min(siblings)
        except (OSError, ValueError):
            out[number] = number
    return out


class CpuSets(Struct):
    """Who has which processors of one node. Owners are container keys, "uid/name"."""

    all: frozenset[int]
    reserved: frozenset[int] = frozenset()
    core_of: Mapping[int, int] = field(default_factory=dict)
    full_cores: bool = False
    """Only whole cores are given (full-pcpus-only)."""
    given: dict[str, frozenset[int]] = field(default_factory=dict)

    @property
    def shared(self) -> frozenset[int]:
        """What those without processors of their own run on; never empty."""
        left = self.all.difference(*self.given.values())
        return left or self.all

    def take(self, owner: str, count: int) -> frozenset[int]:
        """Idempotent. Raises NotEnough."""
        if owner in self.given:
            return self.given[owner]
        free = self.shared - self.reserved
        chosen = self._choose(sorted(free), count)
        if len(chosen) < count:
            raise NotEnough(f"not enough cpus available to satisfy request: requested={count}, "
                            f"available={len(free)}")  # fmt: skip
        self.given[owner] = frozenset(chosen)
        return self.given[owner]

    def _choose(self, free: Sequence[int], count: int) -> list[int]:
        """Whole cores first, then single processors of those that are broken already."""
        by_core: dict[int, list[int]] = {}
        for cpu in free:
            by_core.setdefault(self.core_of.get(cpu, cpu), []).append(cpu)
        size = {
            core: sum(self.core_of.get(cpu, cpu) == core for cpu in self.all) for core in by_core
        }
        whole = [cpus for core, cpus in by_core.items() if len(cpus) == size[core]]
        broken = [cpus for core, cpus in by_core.items() if len(cpus) < size[core]]
        chosen: list[int] = []
        for cpus in whole:
            if len(chosen) + len(cpus) <= count:
                chosen += cpus
        if self.full_cores:
            return chosen
        for cpus in (*broken, *whole):
            chosen += [cpu for cpu in cpus if cpu not in chosen][: count - len(chosen)]
        return chosen

    def release(self, prefix: str) -> bool:
        """Give back what owners that begin so have; true when there was something."""
        gone = [owner for owner in self.given if owner.startswith(prefix)]
        for owner in gone:
            del self.given[owner]
        return bool(gone)
