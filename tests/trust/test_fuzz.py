"""TRUST row 9: whatever is asked, the answer is never a 5xx and never long in coming, and memory
stays flat.

Requests of all kinds, patches of all four kinds, applies of managers that disagree, definitions of
custom resources and what they define. `make trust` raises the number of inputs; the same slice
gives the same ones. Time is this process's own, so that a busy machine is no fault of an input.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from sampan.server import cache
from sampan.server.exchange import Response
from sampan.server.fairness import fairness
from tests.kit.cluster import ADMIN, Cluster, api_cluster, request_of
from tests.kit.fuzz import Asked, Fuzzer
from tests.kit.fuzz_schemas import CRDS, SchemaFuzzer
from tests.kit.samples import seed
from tests.kit.trust import SLICE, size

INPUTS = size(12_000)
SEED = 20_261_123 + SLICE
GROWTH = 1.10
CPU_S = 5.0
"""The longest that one input may take. The dearest take half a second on an idle machine; on a
shared one the same work counts for several times that."""
HANG_S = 30
EACH = 12
"""Requests for objects of each definition."""
TURNS = 200
"""Turns of the loop in which a definition is established."""

pytestmark = pytest.mark.trust


async def ask(cluster: Cluster, asked: Asked) -> Response | None:
    """The answer; None for what cannot even be written as JSON."""
    try:
        request = request_of(asked.method, asked.path, asked.body, ADMIN, asked.content_type, "")
    except TypeError:
        return None
    async with asyncio.timeout(HANG_S):
        answer = await cluster.server.handle(request)
    assert isinstance(answer, Response)
    return answer


class Judge:
    """What became of the requests so far; asserts that none broke the server."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.seen: Counter[int] = Counter()

    async def ask(self, asked: Asked) -> int:
        began = time.process_time()
        answer = await ask(self.cluster, asked)
        if answer is None:
            return 0
        took_s = time.process_time() - began
        assert took_s < CPU_S, (took_s, asked)
        assert answer.status < 500, (asked, answer.body)
        self.seen[answer.status] += 1
        return answer.status


async def define(judge: Judge, fuzzer: SchemaFuzzer, number: int) -> None:
    """One definition, requests for its objects, and its end."""
    definition = fuzzer.definition(f"k{number}s")
    if await judge.ask(Asked("POST", CRDS, definition, "application/json")) != 201:
        return
    for _ in range(TURNS):
        await asyncio.sleep(0)
    for _ in range(EACH):
        await judge.ask(fuzzer.request(definition))
    name = definition["metadata"]["name"]
    await judge.ask(Asked("DELETE", f"{CRDS}/{name}", None, "application/json"))
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_no_input_breaks_the_server() -> None:
    fuzzer = Fuzzer(SEED)
    async with api_cluster() as cluster:
        await seed(cluster, "f0")
        judge = Judge(cluster)
        for _ in range(INPUTS):
            await judge.ask(fuzzer.request())
        assert (await cluster.http("GET", "/readyz")).body == b"ok"
    # All kinds of outcome were among them, or this tested only the first check.
    for status in (200, 201, 400, 404, 422):
        assert judge.seen[status] > INPUTS / 1000, judge.seen


async def test_no_patch_breaks_the_server() -> None:
    """Patches alone, of objects that are there: all four kinds, one after another."""
    fuzzer = Fuzzer(SEED + 1)
    kinds: Counter[str] = Counter()
    async with api_cluster() as cluster:
        await seed(cluster, "f0")
        judge = Judge(cluster)
        for asked in islice(patches(fuzzer), INPUTS // 4):
            kinds[asked.content_type] += await judge.ask(asked) in (200, 201)
    assert len(kinds) == 4
    assert min(kinds.values()) > INPUTS / 1000, kinds


def patches(fuzzer: Fuzzer) -> Iterator[Asked]:
    while True:
        asked = fuzzer.request()
        if asked.method == "PATCH":
            yield asked


async def test_no_definition_breaks_the_server() -> None:
    fuzzer = SchemaFuzzer(SEED)
    async with api_cluster() as cluster:
        judge = Judge(cluster)
        for number in range(INPUTS // 80):
            await define(judge, fuzzer, number)
        assert (await cluster.http("GET", "/readyz")).body == b"ok"
    for status in (200, 201, 400, 404, 409, 422):
        assert judge.seen[status] > 0, judge.seen


async def test_memory_stays_flat() -> None:
    """The same requests once more leave no more behind than before: no objects, no bytes."""
    counts, sizes = await measure()
    assert counts[2] < counts[1] * GROWTH, counts
    assert sizes[2] < sizes[1] * GROWTH, sizes


async def measure() -> tuple[list[int], list[int]]:
    """How many objects and bytes there are behind each of three turns."""
    counts: list[int] = []
    sizes: list[int] = []
    # What is kept on purpose is full at once, so that it does not look like growth.
    with pytest.MonkeyPatch.context() as bounds:
        bounds.setattr(cache, "RECENT_CHANGES", 16)
        bounds.setattr(fairness, "REMEMBERED", 16)
        return await _measure(counts, sizes)


async def _measure(counts: list[int], sizes: list[int]) -> tuple[list[int], list[int]]:
    tracemalloc.start()
    try:
        async with api_cluster() as cluster:
            await seed(cluster, "f0")
            for _ in range(3):
                await repeat(cluster)
                counts.append(len(gc.get_objects()))
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return counts, sizes


async def repeat(cluster: Cluster) -> None:
    """The same requests, then nothing that is past is kept."""
    fuzzer, schemas = Fuzzer(7), SchemaFuzzer(7)
    # Tracing makes everything slower, so no time is taken: what counts here is what is left.
    for _ in range(max(500, INPUTS // 20)):
        await ask(cluster, fuzzer.request())
    for number in range(max(10, INPUTS // 1000)):
        definition = schemas.definition(f"m{number}s")
        await ask(cluster, Asked("POST", CRDS, definition, "application/json"))
        for _ in range(EACH):
            await ask(cluster, schemas.request(definition))
        path = f"{CRDS}/{definition['metadata']['name']}"
        await ask(cluster, Asked("DELETE", path, None, "application/json"))
        for _ in range(TURNS):
            await asyncio.sleep(0)
    await cluster.store.compact(cluster.store.revision + 1)
    gc.collect()


# The controls: each promise, broken, is found.


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("broken")


def busy(*_: Any, **__: Any) -> Any:
    until = time.process_time() + CPU_S
    while time.process_time() < until:
        pass
    raise RuntimeError("busy")


@pytest.mark.parametrize("fault", [broken, busy])
async def test_a_server_that_fails_or_hangs_is_noticed(
    fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sampan.server.verbs import create

    fuzzer = Fuzzer(SEED)
    async with api_cluster() as cluster:
        judge = Judge(cluster)
        monkeypatch.setattr(create, "decode_value", fault)
        with pytest.raises(AssertionError):
            await several(judge, fuzzer)


async def several(judge: Judge, fuzzer: Fuzzer) -> None:
    for _ in range(50):
        await judge.ask(fuzzer.request())


async def test_a_server_that_grows_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from sampan.server.verbs import patch

    kept: list[bytes] = []
    honest = patch.patch_of

    def leak(*given: Any) -> Any:
        kept.append(bytes(20_000))
        return honest(*given)

    monkeypatch.setattr(patch, "patch_of", leak)
    _, sizes = await measure()
    assert sizes[2] > sizes[1] * GROWTH, sizes
