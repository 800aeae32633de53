"""Scheduling with extenders: programs of others that are asked over HTTP for each pod they concern
(KubeSchedulerConfiguration.extenders). Made only where a configuration names some.

As upstream, one pod is decided at a time, and all nodes that pass our own filters are named in one
request. What changes while an extender thinks is judged again before its answer counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sampan.api.errors import Object

from .extender import Extender, ExtenderError, field_of, settings_of
from .failing import EXTENDER, Failing, Failure
from .guest import Guest
from .nodes import Nodes, NodeState
from .preemption import Candidate, Plan, Surroundings, Trial, candidates_of, cheapest
from .verdict import States, Verdict, judge, prepare, rank

log = logging.getLogger("sampan.scheduler")

STRETCH = 10
"""Nodes score up to 100 with us, with extenders up to 10 (MaxNodeScore / MaxExtenderPriority)."""


class Choice(NamedTuple):
    node: NodeState | None
    told: Mapping[str, Verdict]
    """What extenders said against nodes."""


class Extending:
    """Raises ValueError for a configuration that is no good."""

    def __init__(
        self,
        configuration: Object,
        failing: Failing,
        nodes: Nodes,
        pod_of: Callable[[Guest], Object | None],
    ) -> None:
        self._extenders = [Extender(item) for item in settings_of(configuration)]
        self._failing = failing
        self._nodes = nodes
        self._pod_of = pod_of

    async def close(self) -> None:
        await asyncio.gather(*(item.close() for item in self._extenders))

    def concerns(self, pod: Object) -> bool:
        return any(item.concerns(pod) for item in self._extenders)

    async def choose(self, pod: Object, guest: Guest) -> Choice:
        """As `verdict.choose`, with what extenders say. Raises ExtenderError."""
        nodes = self._nodes
        own = nodes.by_name.get(guest.nominated)
        if own is not None and self._fitting(guest, [own.name])[0]:
            passed, _ = await self._filter(pod, [own.name])
            for node in self._fitting(guest, passed)[0]:
                return Choice(node, {})
        fitting, _ = self._fitting(guest, [*nodes.by_name])
        passed, told = await self._filter(pod, [node.name for node in fitting])
        given = await self._prioritize(pod, passed) if len(passed) > 1 else {}
        fitting, states = self._fitting(guest, passed)
        return Choice(rank(guest, fitting, states, given), told)

    def _fitting(self, guest: Guest, names: Sequence[str]) -> tuple[list[NodeState], States]:
        """Those that fit now by our own filters."""
        nodes = self._nodes
        states = prepare(guest, nodes)
        there = (nodes.by_name[name] for name in names if name in nodes.by_name)
        return [node for node in there if judge(guest, node, states, nodes) is None], states

    async def _filter(
        self, pod: Object, names: Sequence[str]
    ) -> tuple[Sequence[str], dict[str, Verdict]]:
        told: dict[str, Verdict] = {}
        for item in self._asked(pod, "filter_verb"):
            if not names:
                break
            try:
                names, failed, never = await item.filter_nodes(pod, self._objects(names))
            except ExtenderError as error:
                _bear(item, error)
                continue
            for name, why in failed.items():
                told[name] = Verdict(EXTENDER, [why], helpless=False)
            for name, why in never.items():
                told[name] = Verdict(EXTENDER, [why], helpless=True)
        return names, told

    async def _prioritize(self, pod: Object, names: Sequence[str]) -> dict[str, float]:
        """What extenders add to each node's points; one that fails adds nothing."""
        sums: Counter[str] = Counter()
        objects = self._objects(names)
        asked = self._asked(pod, "prioritize_verb")
        answers = await asyncio.gather(
            *(item.prioritize(pod, objects) for item in asked), return_exceptions=True
        )
        for item, answer in zip(asked, answers, strict=True):
            if isinstance(answer, ExtenderError):
                log.info("extender %s: %s", item.settings.url, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                for name, score in answer.items():
                    sums[name] += score * item.settings.weight * STRETCH
        return dict(sums)

    async def fail(self, pod: Object, guest: Guest, told: Mapping[str, Verdict]) -> Failure:
        """No node is left: who could leave, as far as extenders agree."""
        found = self._failing.situation(guest, told)
        result = Plan()
        if found.may_preempt:
            around = self._failing.around()
            trial = Trial(self._nodes, found.states, around)
            listed = [*candidates_of(guest, found.verdicts, trial, result.reasons)]
            for item in listed:
                if not item.victims:
                    why = f'expected at least one victim pod on node "{item.node}"'
                    result.reasons[why] += 1
            await self._settle(pod, [item for item in listed if item.victims], around, result)
        return self._failing.conclude(guest, found, result)

    async def _settle(
        self, pod: Object, candidates: list[Candidate], around: Surroundings, result: Plan
    ) -> None:
        if not candidates:
            return
        try:
            agreed = await self._agree(pod, candidates)
        except ExtenderError as error:
            result.why = str(error)
            return
        there = [item for item in agreed if item.node in self._nodes.by_name]
        chosen = cheapest(there, self._nodes, around)
        if chosen is None:
            result.why = "no candidate node for preemption"
        else:
            result.node, result.victims = chosen.node, chosen.victims

    async def _agree(self, pod: Object, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates, and of their victims those, that every extender leaves."""
        for item in self._asked(pod, "preempt_verb"):
            known = {guest.uid: guest for one in candidates for guest in one.victims}
            try:
                answer = await item.preempt(pod, self._victims(candidates))
                agreed = [_candidate(item, name, each, known) for name, each in answer.items()]
            except ExtenderError as error:
                _bear(item, error)
                continue
            candidates = [one for one in agreed if one is not None]
            if not candidates:
                break
        return candidates

    def _victims(self, candidates: Sequence[Candidate]) -> dict[str, Object]:
        return {
            item.node: {
                "Pods": [pod for pod in map(self._pod_of, item.victims) if pod is not None],
                "NumPDBViolations": item.violations,
            }
            for item in candidates
        }

    async def bind(self, pod: Object, node: str) -> bool:
        """Did an extender bind it? Raises ExtenderError when the one whose work it is could not."""
        for item in self._asked(pod, "bind_verb"):
            try:
                await item.bind(pod, node)
            except ExtenderError as error:
                _bear(item, error)
            else:
                return True
        return False

    def _asked(self, pod: Object, verb: str) -> list[Extender]:
        extenders = self._extenders
        return [item for item in extenders if getattr(item.settings, verb) and item.concerns(pod)]

    def _objects(self, names: Sequence[str]) -> list[Object]:
        by_name = self._nodes.by_name
        return [by_name[name].node for name in names if name in by_name]


def _bear(item: Extender, error: ExtenderError) -> None:
    """Raises it, unless scheduling goes on without this extender."""
    if not item.settings.ignorable:
        raise error
    log.warning("extender %s is left out: %s", item.settings.url, error)


def _candidate(
    item: Extender, name: str, answer: Object, known: Mapping[str, Guest]
) -> Candidate | None:
    """What an extender makes of a node; None to leave the node out."""
    pods = field_of(answer, "Pods") or ()
    if not pods:
        if item.settings.ignorable:
            return None
        raise ExtenderError(f'expected at least one victim pod on node "{name}"')
    victims = []
    for one in pods:
        uid = field_of(one, "UID")
        if uid not in known:
            raise ExtenderError(
                f"extender: {item.settings.url} claims to preempt pod (UID: {uid}) on node: "
                f"{name}, but the pod is not found on that node"
            )
        victims.append(known[uid])
    return Candidate(name, victims, int(field_of(answer, "NumPDBViolations") or 0))
