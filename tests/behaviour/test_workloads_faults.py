"""What may go wrong with ReplicaSets and Deployments: nothing is made twice, nothing is lost, and
nothing runs hot."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.controllers.replicaset import ReplicaSetController, new_pod
from sampan.controllers.runtime.claim import claim
from sampan.controllers.runtime.queue import Request

from .workload_kit import PODS, SETS, deployment, world


async def test_a_pod_that_is_seen_while_a_sync_waits_is_not_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world() as w:
        found = next(
            item for item in w.controllers.controllers if isinstance(item, ReplicaSetController)
        )
        await found.queue.stop()
        body = {**deployment("web", 1), "kind": "ReplicaSet"}
        owner = await w.client.create(SETS, body, "default")
        sets, pods = w.cache("replicasets", "apps"), w.cache("pods")
        await w.until(lambda: sets.get("default", "web"))

        async def slow(*given: Any) -> list[Object]:
            """The answer of an earlier creation is slower than its event."""
            seen = await claim(*given)
            await w.client.create(PODS, new_pod(found.resource, owner), "default")
            await w.until(lambda: pods.list("default"))
            return seen

        monkeypatch.setattr("sampan.controllers.replicaset.claim", slow)
        request = Request("default", "web")
        found.expectations.expect_creations(request, 1)
        again = await found.reconcile(request)
        assert again is not None
        assert not found.expectations.outstanding_s(request)
        assert len((await w.client.list(PODS, "default"))["items"]) == 1
