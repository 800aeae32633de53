"""Jobs for tests, and what one looks at of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sampan.api.errors import Object
from sampan.testing.cluster import Cluster, Options

POD = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "work:1"}]}


def job(name: str = "j", /, pod: Object | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**spec, "template": {"spec": {**POD, **(pod or {})}}},
    }


def cron(name: str = "c", /, schedule: str = "*/5 * * * *", **spec: Any) -> Object:
    template = {"spec": {**spec.pop("job", {}), "template": {"spec": POD}}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedule": schedule, "jobTemplate": template, **spec},
    }


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """One whose time the test turns."""
    async with await Cluster.start(Options(virtual_time=True)) as found:
        yield found


async def status(found: Cluster, name: str = "j") -> Object:
    """Counts that are not zero, indexes, and the conditions that hold with their reasons."""
    said = (await found.get("job", name))["status"]
    kept = ("active", "ready", "terminating", "succeeded", "failed")
    out = {key: said[key] for key in kept if said.get(key)}
    out |= {key: said[key] for key in ("completedIndexes", "failedIndexes") if key in said}
    conditions = {
        item["type"]: item.get("reason", "")
        for item in said.get("conditions") or ()
        if item["status"] == "True"
    }
    return out | conditions


async def pods(found: Cluster, **fields: str) -> list[Object]:
    return [
        pod
        for pod in await found.list("pods")
        if all(pod["status"].get(key) == value for key, value in fields.items())
    ]


async def events(found: Cluster, kind: str = "Job") -> list[str]:
    """In the order they happened, each once."""
    listed = [item for item in await found.list("events") if item["involvedObject"]["kind"] == kind]
    listed.sort(key=lambda item: (item["firstTimestamp"], int(item["metadata"]["name"][-14:], 16)))
    return [f"{item['type']} {item['reason']}: {item['message']}" for item in listed]


FINISHED = {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}


def failed(reason: str) -> Object:
    return {"FailureTarget": reason, "Failed": reason}
