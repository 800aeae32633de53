"""A flood of writes by one client: who is served in which order, and who is told to come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from sampan.server.exchange import User
from sampan.server.fairness import fairness
from tests.behaviour.test_fairness import EVERYBODY, GREEDY, MODEST, let_in
from tests.kit.cluster import Answer, Cluster, api_cluster

GROUP = "/apis/flowcontrol.apiserver.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
FLOOD = 200
HAND, LENGTH = 4, 6
"""Queues that a flow may use, and how many wait in one."""
LEVEL: dict[str, Any] = {
    "metadata": {"name": "mine"},
    "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Queue", "queuing": {
            "queues": 64, "handSize": HAND, "queueLengthLimit": LENGTH}}}},
}  # fmt: skip
SCHEMA: dict[str, Any] = {
    "metadata": {"name": "mine"},
    "spec": {"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "mine"},
             "distinguisherMethod": {"type": "ByUser"},
             "rules": [{"subjects": [{"kind": "Group", "group": {"name": EVERYBODY}}],
                        "resourceRules": [{"verbs": ["create"], "apiGroups": [""],
                                           "resources": ["configmaps"], "namespaces": ["*"]}]}]},
}  # fmt: skip


class Gate:
    """Holds writes at admission until it opens, and notes whose they are, in order."""

    def __init__(self, cluster: Cluster) -> None:
        self.open = asyncio.Event()
        self.order: list[str] = []
        admit = cluster.server.admission.admit

        async def wait(write: Any) -> None:
            await self.open.wait()
            self.order.append(write.attributes.user.name)
            await admit(write)

        cluster.server.admission.admit = wait  # type: ignore[method-assign]


async def prepare(cluster: Cluster) -> None:
    await let_in(cluster)
    for path, body in (
        (f"{GROUP}/prioritylevelconfigurations", LEVEL),
        (f"{GROUP}/flowschemas", SCHEMA),
    ):
        made = await cluster.http("POST", path, body)
        assert made.status == 201, made.message
    for _ in range(50):
        await asyncio.sleep(0)


async def flood(cluster: Cluster) -> tuple[list[str], list[Answer], list[Answer]]:
    """(the order of service, the greedy one's answers, the modest one's, who came last)."""
    gate = Gate(cluster)

    async def create(user: User, number: int) -> Answer:
        body = {"metadata": {"name": f"{user.name}{number}"}}
        return await cluster.http("POST", MAPS, body, user=user)

    greedy = [asyncio.create_task(create(GREEDY, number)) for number in range(FLOOD)]
    await asyncio.sleep(0)
    modest = [asyncio.create_task(create(MODEST, number)) for number in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)
    gate.open.set()
    answers = await asyncio.gather(*greedy), await asyncio.gather(*modest)
    return gate.order, *answers


async def test_a_flood_is_told_to_come_back_and_others_are_served_in_turn() -> None:
    async with api_cluster() as cluster:
        await prepare(cluster)
        order, greedy, modest = await flood(cluster)
        # Whoever asks little is served, between the greedy one's.
        assert [answer.status for answer in modest] == [201] * 3
        places = [place for place, who in enumerate(order) if who == "modest"]
        # One of each queue in its turn: the greedy one holds HAND of them.
        assert places[-1] <= 1 + 3 * (HAND + 1) < len(order) - HAND, order
        # One who asks too much has its share of the queues, and no more.
        statuses = Counter(answer.status for answer in greedy)
        assert statuses == {201: HAND * LENGTH + 1, 429: FLOOD - HAND * LENGTH - 1}
        late = next(answer for answer in greedy if answer.status == 429)
        assert late.headers["Retry-After"] == "1"
        assert late.json["reason"] == "TooManyRequests"
        assert late.message == "Too many requests, please try again later."
        state = cluster.server.fairness.levels["mine"]
        assert (state.executing, state.waiting) == (0, 0)


async def test_in_one_queue_the_others_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: were all of one flow, who comes last is served last, or not at all."""
    schema = SCHEMA["spec"]
    monkeypatch.setitem(SCHEMA, "spec", {
        name: value for name, value in schema.items() if name != "distinguisherMethod"
    })  # fmt: skip
    monkeypatch.setattr(fairness, "WAIT_S", 30.0)
    async with api_cluster() as cluster:
        await prepare(cluster)
        order, _, modest = await flood(cluster)
        assert 429 in [answer.status for answer in modest]
        assert order.count("modest") < 3
