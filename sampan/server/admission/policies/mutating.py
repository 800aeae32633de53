"""MutatingAdmissionPolicy: patches made by expressions, applied before the webhooks.

One pass, and a second when a policy (or a webhook) changed the object after one with
reinvocationPolicy IfNeeded had seen it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api.errors import Cause, Details, Invalid, Object, StatusError
from sampan.wire.jsonpatch import json_patch
from sampan.wire.patcherror import PatchError

from ...exchange import Write
from ...turns import in_turns
from ..plugin import EVERYTHING, Plugin, refuse
from ..webhooks.forms import default_early, objects_for, take_patch
from ..webhooks.metrics import condition
from ..webhooks.review import request_of
from .matching import Invocation, invocations
from .source import Candidate
from .validating import LONG_S

if TYPE_CHECKING:
    from ...app import Server

OPERATIONS = ("CREATE", "UPDATE", "CONNECT")
MEMORY = "policies"

Key = tuple[str, str, str]


class _Memory:
    """What the second pass must know of the first."""

    def __init__(self) -> None:
        self.seen: set[Key] = set()
        self.wanted: set[Key] = set()
        self.left: Object | None = None

    def require(self) -> None:
        self.wanted |= self.seen
        self.seen = set()


def _mutate(server: Server, write: Write) -> Awaitable[None] | None:
    candidates = server.admission.policies.candidates("mutate", write)
    return _run(server, write, candidates) if candidates else None


def _active(server: Server) -> bool:
    return server.admission.policies.any("mutate")


MUTATING = Plugin(
    "MutatingAdmissionPolicy", {EVERYTHING: OPERATIONS}, mutate=_mutate, active=_active
)


async def _run(server: Server, write: Write, candidates: tuple[Candidate, ...]) -> None:
    memory = write.passes.memory.setdefault(MEMORY, _Memory())
    assert isinstance(memory, _Memory)
    again = write.passes.second
    if again and memory.left is not None and memory.left != write.obj:
        memory.require()
    if not again:
        default_early(write)
    for invocation in list(invocations(server, write, candidates)):
        param = (invocation.param or {}).get("metadata") or {}
        where = f"{param.get('namespace', '')}/{param.get('name', '')}"
        key = (invocation.policy.name, invocation.binding.name, where)
        if again and key not in memory.wanted:
            continue
        if invocation.problem:
            _fail(write, invocation, invocation.problem)
            continue
        if await _apply(server, write, invocation):
            memory.require()
            write.passes.wanted = True
        if invocation.policy.spec.get("reinvocationPolicy") == "IfNeeded":
            memory.seen.add(key)
    memory.left = orjson.loads(orjson.dumps(write.obj)) if memory.seen and not again else None


async def _apply(server: Server, write: Write, invocation: Invocation) -> bool:
    """All mutations of a policy, in order; whether they changed the object."""
    from .inputs import Failed, values_of

    programs, changed = invocation.policy.programs, False
    metrics = server.admission.metrics
    observe, names = metrics.evaluations.add, (invocation.policy.name, invocation.binding.name)
    for position in range(len(invocation.policy.spec.get("mutations") or ())):
        objects = await objects_for(write, invocation.target, early=True)
        if objects[0] is None:
            return changed
        request = request_of(write, invocation.target, "", objects)
        values = {**values_of(server, write, request), "params": invocation.param}
        if position == 0 and programs.conditions:
            met = await _meets(server, write, invocation, values)
            if met is not True:
                if met:
                    _fail(write, invocation, met)
                return False
        began, problem = perf_counter(), ""
        try:
            patch = await in_turns(_patch, invocation, position, values, observe)
            if patch:
                target = invocation.target
                changed |= await take_patch(server, write, target, objects[0], patch)
        except (Failed, PatchError) as error:
            problem = str(error)
        except StatusError as error:
            problem = error.message.removeprefix("Internal error occurred: ")
        seconds = perf_counter() - began
        metrics.mutation(names, problem, seconds)
        if seconds > LONG_S:
            await asyncio.sleep(0)
        if problem:
            _fail(write, invocation, problem)
    return changed


async def _meets(
    server: Server, write: Write, invocation: Invocation, values: Mapping[str, Any]
) -> bool | str:
    """Are the match conditions true? Or why that cannot be said."""
    from .inputs import Failed, meets_timed

    what = condition(invocation.policy.name, "policy", "admit", write.operation)
    try:
        return await meets_timed(server, what, invocation.policy.programs.conditions, values)
    except Failed as error:
        return str(error)


def _patch(
    invocation: Invocation,
    position: int,
    values: Mapping[str, Any],
    observe: Callable[[float], None],
) -> bytes:
    """The JSON patch a mutation makes of the object. Raises Failed and PatchError, and Unfinished
    if HURRIED."""
    from sampan.api.cel import RUNTIME_BUDGET, budget_of

    from .applying import applied, operations_of
    from .inputs import evaluate, with_variables

    programs, budget = invocation.policy.programs, budget_of(RUNTIME_BUDGET, observe)
    mutation = invocation.policy.spec["mutations"][position]
    whole = with_variables(values, programs, budget)
    value = evaluate(programs.mutations[position], whole, budget)
    if mutation.get("patchType") == "JSONPatch":
        operations = operations_of(value)
        json_patch(values["object"], operations)
        return orjson.dumps(operations)
    before: Object = values["object"]
    after = applied(before, value, invocation.target)
    return b"" if after == before else orjson.dumps([{"op": "replace", "path": "", "value": after}])


def _fail(write: Write, invocation: Invocation, why: str) -> None:
    """Refuse the write, unless the policy says to go on without it."""
    if not invocation.policy.fails:
        return
    message = (
        f"policy '{invocation.policy.name}' with binding '{invocation.binding.name}'"
        f" denied request: {why}"
    )
    known = refuse(write, message).details or Details()
    causes = (Cause("", message, ""),)
    raise Invalid(message, Details(known.name, known.group, known.kind, causes=causes))
