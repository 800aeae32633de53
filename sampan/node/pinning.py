"""CPU manager, policy static, at work: who gets which processors, remembered across agents.

`processors` is asked when a container is made; when what is shared changes, the containers that
share are told. The state is upstream's file, `cpu_manager_state`, in the node's data. With the
policy `none`, which is the default, nothing here is ever loaded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from sampan.runtime.interface import RuntimeFailure

from .cpus import CpuSets, cores, cpus_text, exclusive, parse_cpus
from .settings import Settings

if TYPE_CHECKING:
    from .worker import PodWorker

log = logging.getLogger("sampan.node.pinning")

FILE = "cpu_manager_state"


class Pinning:
    """`repin` gives a running container, by its worker and name, other processors."""

    def __init__(self, data: Path, settings: Settings) -> None:
        self._file = data / FILE
        everything = frozenset(os.sched_getaffinity(0))
        reserved = parse_cpus(settings.reserved_cpus)
        if not reserved:
            from sampan.wire.quantity import milli

            count = -(-settings.reserved("cpu", milli) // 1000)
            reserved = frozenset(sorted(everything)[:count])
        self._sets = CpuSets(everything, reserved, cores(), settings.full_cores)
        self._read()

    def processors(self, worker: PodWorker, container: Mapping[str, Any]) -> str:
        """What the container runs on. Raises NotEnough."""
        uid, name = worker.state.uid, container["name"]
        count = exclusive(worker.state.spec, container)
        if not count:
            return cpus_text(self._sets.shared)
        before = self._sets.shared
        given = self._sets.take(f"{uid}/{name}", count)
        if self._sets.shared != before:
            self._write()
        return cpus_text(given)

    def release(self, uid: str) -> bool:
        """The pod is over; true when there is more to share again."""
        gone = self._sets.release(f"{uid}/")
        if gone:
            self._write()
        return gone

    def retain(self, uids: set[str]) -> None:
        """After a restart: pods that are gone hold nothing."""
        for owner in [item for item in self._sets.given if item.partition("/")[0] not in uids]:
            self._sets.release(owner)

    def spread(self, workers: Mapping[str, PodWorker], limit: Callable[[str, str], None]) -> None:
        """Tell all that share what there is to share; `limit(container id, cpus)`."""
        shared = cpus_text(self._sets.shared)
        for uid, worker in workers.items():
            for name, runs in worker.state.attempts.items():
                run = runs[-1] if runs else None
                if run is None or run.state != "running" or f"{uid}/{name}" in self._sets.given:
                    continue
                try:
                    limit(run.id, shared)
                except RuntimeFailure as error:
                    log.warning("container %s: %s", run.id[:12], error)

    def _read(self) -> None:
        try:
            known = orjson.loads(self._file.read_bytes())
            for uid, containers in known["entries"].items():
                for name, text in containers.items():
                    cpus = parse_cpus(text) & self._sets.all
                    if cpus:
                        self._sets.given[f"{uid}/{name}"] = cpus
        except (OSError, ValueError, KeyError, AttributeError):
            self._sets.given.clear()

    def _write(self) -> None:
        entries: dict[str, dict[str, str]] = {}
        for owner, cpus in self._sets.given.items():
            uid, _, name = owner.partition("/")
            entries.setdefault(uid, {})[name] = cpus_text(cpus)
        state = {
            "policyName": "static",
            "defaultCpuSet": cpus_text(self._sets.shared),
            "entries": entries,
        }
        draft = self._file.with_suffix(".new")
        draft.write_bytes(orjson.dumps(state))
        draft.replace(self._file)
