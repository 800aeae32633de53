"""ValidatingAdmissionPolicy: the verdicts of policies, and what bindings make of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct, field

from sampan.api.descriptor import Descriptor
from sampan.api.errors import REASONS, Cause, Details, Object

from ...exchange import Write
from ...turns import in_turns
from ..plugin import EVERYTHING, Plugin, refuse
from ..webhooks.forms import objects_for
from ..webhooks.metrics import condition
from ..webhooks.review import request_of
from .matching import Invocation, invocations
from .source import Candidate, Policy

if TYPE_CHECKING:
    from sampan.api.cel import Budget

    from ...app import Server

OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")
FAILURE_KEY = "validation.policy.admission.k8s.io/validation_failure"
LONG_S = 0.01
"""A policy that took longer is followed by a turn of the loop, so that a request which many
policies are about holds up the others for one of them at a time."""
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


class Judgement(Struct):
    """What the expressions of one policy made of a write."""

    verdicts: list[Verdict] = field(default_factory=list)
    ignored: list[Verdict] = field(default_factory=list)
    """What could not be evaluated, where the policy says to go on."""
    notes: list[tuple[str, str]] = field(default_factory=list)
    """Audit annotations: (key, text)."""


async def evaluate_policy(
    server: Server,
    write: Write,
    invocation: Invocation,
    values: Mapping[str, Any],
    notes: dict[str, list[str]],
) -> list[Verdict]:
    """The verdicts against a write; audit annotations go to `notes`. A policy that fails to
    evaluate is a verdict too, if its failurePolicy is Fail."""
    from .inputs import Failed, meets_timed

    policy, metrics = invocation.policy, server.admission.metrics
    known = {**values, "params": invocation.param}
    began = perf_counter()
    try:
        what = condition(policy.name, "policy", "validate", write.operation)
        if not await meets_timed(server, what, policy.programs.conditions, known):
            return []
        found = await in_turns(judge, policy, known, metrics.evaluations.add)
    except Failed as error:
        return [Verdict(str(error))] if policy.fails else []
    for verdict in found.ignored:
        names = (policy.name, invocation.binding.name)
        metrics.check(names, verdict.message, "allow", verdict.seconds)
    for key, text in found.notes:
        texts = notes.setdefault(key, [])
        if text not in texts:
            texts.append(text)
    if perf_counter() - began > LONG_S:
        await asyncio.sleep(0)
    return found.verdicts


def judge(policy: Policy, values: Mapping[str, Any], observe: Callable[[float], None]) -> Judgement:
    """Evaluate validations and audit annotations. Raises Unfinished, if HURRIED."""
    from sampan.api.cel import RUNTIME_BUDGET, budget_of

    from .inputs import with_variables

    found = Judgement()
    budget = budget_of(RUNTIME_BUDGET, observe)
    whole = with_variables(values, policy.programs, budget)
    _validations(policy, whole, budget, found)
    _annotations(policy, whole, budget_of(RUNTIME_BUDGET, observe), found)
    return found


def _validations(
    policy: Policy, values: Mapping[str, Any], budget: Budget, found: Judgement
) -> None:
    """What did not hold, and what could not be evaluated."""
    from .inputs import Failed, OutOfBudget, evaluate

    failed = found.verdicts if policy.fails else found.ignored
    for index, (raw, (expression, message)) in enumerate(
        zip(policy.spec.get("validations") or (), policy.programs.validations, strict=True)
    ):
        began = perf_counter()
        try:
            if evaluate(expression, values, budget) is True:
                continue
        except OutOfBudget as error:
            failed.append(Verdict(str(error), seconds=perf_counter() - began))
            return
        except Failed as error:
            failed.append(Verdict(str(error), index=index, seconds=perf_counter() - began))
            continue
        seconds = perf_counter() - began
        text = _message(raw, message, values, budget)
        found.verdicts.append(Verdict(text, raw.get("reason") or "Invalid", index, seconds))


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
    policy: Policy, values: Mapping[str, Any], budget: Budget, found: Judgement
) -> None:
    from .inputs import Failed, evaluate

    for raw, expression in zip(
        policy.spec.get("auditAnnotations") or (), policy.programs.annotations, strict=True
    ):
        try:
            value = evaluate(expression, values, budget)
        except Failed as error:
            if policy.fails:
                found.verdicts.append(Verdict(str(error)))
            continue
        text = value.strip()[:ANNOTATION_BYTES] if isinstance(value, str) else ""
        if text:
            found.notes.append((f"{policy.name}/{raw['key']}", text))
