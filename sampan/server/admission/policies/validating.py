"""ValidatingAdmissionPolicy: the verdicts of policies, and what bindings make of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from sampan.api.descriptor import Descriptor
from sampan.api.errors import REASONS, Cause, Details, Object

from ...exchange import Write
from ..plugin import EVERYTHING, Plugin, refuse
from ..webhooks.forms import objects_for
from ..webhooks.metrics import condition
from ..webhooks.review import request_of
from .matching import Invocation, invocations
from .source import Candidate

if TYPE_CHECKING:
    from sampan.api.cel import Budget

    from ...app import Server

OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")
FAILURE_KEY = "validation.policy.admission.k8s.io/validation_failure"
LONG_S = 0.01
"""An evaluation beyond it is followed by a turn of the loop, so that a policy of many costly
expressions holds up the others for one of them at a time."""
ANNOTATION_BYTES = 10 * 1024
"""The longest value of an audit annotation, as upstream."""


class Verdict(Struct, frozen=True):
    """A validation that did not hold, or could not be evaluated."""

    message: str
    reason: str = "Invalid"
    index: int = 0
    seconds: float = 0.0


def _validate(server: Server, write: Write) -> Awaitable[None] | None:
    candidates = server.admission.policies.candidates("validate", write)
    return _run(server, write, candidates) if candidates else None


def _active(server: Server) -> bool:
    return server.admission.policies.any("validate")


VALIDATING = Plugin(
    "ValidatingAdmissionPolicy", {EVERYTHING: OPERATIONS}, validate=_validate, active=_active
)


async def _run(server: Server, write: Write, candidates: tuple[Candidate, ...]) -> None:
    from .inputs import values_of

    seen: dict[Descriptor, dict[str, Any]] = {}
    denied: list[tuple[Invocation, Verdict]] = []
    notes: dict[str, list[str]] = {}
    for invocation in invocations(server, write, candidates):
        if invocation.problem:
            if invocation.policy.fails:
                denied.append((invocation, Verdict(invocation.problem)))
            continue
        target = invocation.target
        values = seen.get(target)
        if values is None:
            objects = await objects_for(write, target, early=False)
            request = request_of(write, target, "", objects)
            values = seen[target] = values_of(server, write, request)
        verdicts = await evaluate_policy(server, write, invocation, values, notes)
        denied += _carry_out(server, write, invocation, verdicts)
    for key, texts in notes.items():
        write.annotate(key, ", ".join(texts))
    if denied:
        raise _denial(write, *denied[0])


def _carry_out(
    server: Server, write: Write, invocation: Invocation, verdicts: list[Verdict]
) -> list[tuple[Invocation, Verdict]]:
    """What the binding's validationActions make of verdicts; gives those that deny."""
    metrics = server.admission.metrics
    actions = invocation.binding.spec.get("validationActions") or ()
    policy, binding = invocation.policy.name, invocation.binding.name
    for verdict in verdicts:
        for action in actions:
            metrics.check((policy, binding), verdict.message, action.lower(), verdict.seconds)
        if "Warn" in actions:
            write.warnings.append(
                f"Validation failed for ValidatingAdmissionPolicy '{policy}' with binding"
                f" '{binding}': {verdict.message}"
            )
        if "Audit" in actions:
            failure = {
                "message": verdict.message, "policy": policy, "binding": binding,
                "expressionIndex": verdict.index, "validationActions": list(actions),
            }  # fmt: skip
            write.annotate(FAILURE_KEY, orjson.dumps([failure]).decode())
    return [(invocation, verdict) for verdict in verdicts] if "Deny" in actions else []


def _denial(write: Write, invocation: Invocation, verdict: Verdict) -> Exception:
    message = (
        f"ValidatingAdmissionPolicy '{invocation.policy.name}' with binding"
        f" '{invocation.binding.name}' denied request: {verdict.message}"
    )
    error = refuse(write, message)
    known = error.details or Details()
    causes = (Cause("", message, ""),)
    details = Details(known.name, known.group, known.kind, causes=causes)
    return REASONS[verdict.reason](error.message, details)


async def evaluate_policy(
    server: Server,
    write: Write,
    invocation: Invocation,
    values: Mapping[str, Any],
    notes: dict[str, list[str]],
) -> list[Verdict]:
    """The verdicts against a write; audit annotations go to `notes`. A policy that fails to
    evaluate is a verdict too, if its failurePolicy is Fail. Behind an evaluation that took long
    the loop has a turn."""
    from sampan.api.cel import Budget

    from .inputs import Failed, meets_timed, with_variables

    policy = invocation.policy
    programs = policy.programs
    known = {**values, "params": invocation.param}
    try:
        what = condition(policy.name, "policy", "validate", write.operation)
        if not meets_timed(server, what, programs.conditions, known):
            return []
    except Failed as error:
        return [Verdict(str(error))] if policy.fails else []
    observe = server.admission.metrics.evaluations.add
    budget = Budget(observe=observe)
    whole = with_variables(known, programs, budget)

    def ignored(verdict: Verdict) -> None:
        names = (policy.name, invocation.binding.name)
        server.admission.metrics.check(names, verdict.message, "allow", verdict.seconds)

    verdicts = []
    for verdict, failed in _validations(policy.spec, programs, whole, budget):
        if verdict is None or verdict.seconds > LONG_S:
            await asyncio.sleep(0)
        if verdict is None:
            continue
        if failed and not policy.fails:
            ignored(verdict)
        else:
            verdicts.append(verdict)
    return verdicts + _annotations(invocation, whole, notes, Budget(observe=observe))


def _validations(
    spec: Object, programs: Any, values: Mapping[str, Any], budget: Budget
) -> Iterator[tuple[Verdict | None, bool]]:
    """What did not hold, each with whether it could not be evaluated; None behind what held, but
    took long."""
    from .inputs import Failed, OutOfBudget, evaluate

    for index, (raw, (expression, _)) in enumerate(
        zip(spec.get("validations") or (), programs.validations, strict=True)
    ):
        began = perf_counter()
        try:
            if evaluate(expression, values, budget) is True:
                if perf_counter() - began > LONG_S:
                    yield None, False
                continue
        except OutOfBudget as error:
            yield Verdict(str(error), seconds=perf_counter() - began), True
            return
        except Failed as error:
            yield Verdict(str(error), index=index, seconds=perf_counter() - began), True
            continue
        seconds = perf_counter() - began
        message = _message(raw, programs.validations[index][1], values, budget)
        yield Verdict(message, raw.get("reason") or "Invalid", index, seconds), False


def _message(raw: Object, expression: Any, values: Mapping[str, Any], budget: Budget) -> str:
    """messageExpression, or else message, or else the expression itself."""
    from sampan.api.cel.admission import MESSAGE_BYTES

    from .inputs import Failed, evaluate

    if expression is not None:
        try:
            text = evaluate(expression, values, budget)
        except Failed:
            text = None
        if isinstance(text, str):
            text = text.strip()
            if text and "\n" not in text and len(text.encode()) <= MESSAGE_BYTES:
                return text
    fallback = f"failed expression: {(raw.get('expression') or '').strip()}"
    return (raw.get("message") or "").strip() or fallback


def _annotations(
    invocation: Invocation,
    values: Mapping[str, Any],
    notes: dict[str, list[str]],
    budget: Budget,
) -> list[Verdict]:
    from .inputs import Failed, evaluate

    policy, out = invocation.policy, []
    for raw, expression in zip(
        policy.spec.get("auditAnnotations") or (), policy.programs.annotations, strict=True
    ):
        try:
            value = evaluate(expression, values, budget)
        except Failed as error:
            if policy.fails:
                out.append(Verdict(str(error)))
            continue
        text = value.strip()[:ANNOTATION_BYTES] if isinstance(value, str) else ""
        known = notes.setdefault(f"{policy.name}/{raw['key']}", []) if text else []
        if text and text not in known:
            known.append(text)
    return out
