"""An authoriser elsewhere: a SubjectAccessReview, POSTed to the server of a kubeconfig file.

Its answers are remembered (at most `REMEMBERED`, the oldest go first) for as long as the
configuration says; one that is not known is raised as `Undecided` and asked for by one task,
however many requests wait for it. At most `ASKING_MAX` are asked for at once; beyond, and when the
webhook does not answer, its failure policy decides. Rules: upstream's plugin authorizer/webhook.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api.errors import Object

from ..documents import BadDocument
from ..series import DEFAULT_BUCKETS_S, Labels, Series
from ..webhooks.files import target_in_cluster, target_of_kubeconfig
from .configuration import Webhook
from .questions import HELD, Asked, Said, Undecided, Verdict

if TYPE_CHECKING:
    from sampan.api.cel import Program
    from sampan.api.cel.types import Type

    from ..app import Server

log = logging.getLogger("sampan.server")

REMEMBERED = 8192
"""As upstream's cache."""
LARGEST = 10_000
"""Bytes of a question that is remembered (upstream's maxControlledAttrCacheSize)."""
ASKING_MAX = 512
SHORTEST_S = 1.0
"""Even what is not to be remembered must outlive the request that asked; a webhook that fails is
not asked the same more often than this."""
SPEC = "io.k8s.api.authorization.v1.SubjectAccessReviewSpec"
PREFIX = "apiserver_authorization_"
GROUP, KIND = "authorization.k8s.io", "SubjectAccessReview"
NO_OPINION = Said(Verdict.NO_OPINION)


class AccessWebhook:
    """One webhook of the chain."""

    def __init__(self, server: Server, name: str, settings: Webhook, series: Series) -> None:
        """Raises ValueError for a file that does not say where to call, or a bad condition."""
        self._server = server
        self._name = name
        self._series = series
        self._settings = settings
        file = settings.kubeconfig
        self._target = target_in_cluster() if file is None else target_of_kubeconfig(file)
        self._conditions = tuple(map(_compile, settings.conditions))
        self._typed: Labels = (("name", name), ("type", "Webhook"))
        self._known: dict[bytes, tuple[Said, float]] = {}
        self._asking: dict[bytes, asyncio.Task[Said]] = {}

    def decide(self, asked: Asked) -> Said:
        """Raises Undecided when the webhook has to be asked."""
        spec = asked.spec()
        if self._conditions:
            left_out = self._leaves_out(spec)
            if left_out is not None:
                return left_out
        raw = orjson.dumps(_compact(spec), option=orjson.OPT_SORT_KEYS)
        key = (self._name, raw)
        held = HELD.get()
        if held is not None and key in held:
            return held[key]
        known = self._known.get(raw)
        if known is not None and self._server.clock.monotonic() < known[1]:
            return known[0]
        raise Undecided(key, partial(self._ask, raw))

    def _leaves_out(self, spec: Object) -> Said | None:
        """What is said without asking, None if the webhook is to be asked. One condition that is
        false decides, else one that fails."""
        from sampan.api.cel import MATCH_CONDITIONS_BUDGET, Budget, CostExceeded, EvaluationError

        budget = Budget(MATCH_CONDITIONS_BUDGET)
        errors = []
        for program in self._conditions:
            try:
                if program.evaluate({"request": spec}, budget) is not True:
                    self._series.count(f"{PREFIX}match_condition_exclusions_total", self._typed)
                    return NO_OPINION
            except (EvaluationError, CostExceeded) as error:
                self._series.count(f"{PREFIX}match_condition_evaluation_errors_total", self._typed)
                errors.append(f"cel evaluation error: expression '{program.source}': {error}")
        return self._failed(", ".join(errors)) if errors else None

    async def _ask(self, raw: bytes) -> Said:
        task = self._asking.get(raw)
        if task is None:
            if len(self._asking) >= ASKING_MAX:
                return self._failed("too many questions are being asked")
            task = asyncio.get_running_loop().create_task(self._answer(raw))
            self._asking[raw] = task
            task.add_done_callback(lambda _: self._asking.pop(raw, None))
        # A client that leaves does not take the answer from the others.
        return await asyncio.shield(task)

    async def _answer(self, raw: bytes) -> Said:
        from ..webhooks.retrying import ask_again
        from ..webhooks.target import CallFailed

        settings = self._settings
        spec = orjson.loads(raw)
        if settings.version == "v1beta1" and "groups" in spec:
            spec["group"] = spec.pop("groups")
        api = f"{GROUP}/{settings.version}"
        body = {"apiVersion": api, "kind": KIND, "metadata": {}, "spec": spec}
        lasts_s = 0.0
        began = perf_counter()
        result = "success"
        try:
            ask = partial(
                self._server.webhooks.post_json,
                self._target, body, settings.timeout_s, tell_timeout=False,
            )  # fmt: skip
            said = _read(await ask_again(ask, self._server.clock))
        except CallFailed as error:
            log.error("authorization webhook %s: %s", self._name, error.message)
            said = self._failed(error.message)
            result = "timeout" if perf_counter() - began >= settings.timeout_s else "error"
        else:
            lasts_s = settings.allowed_s if said.allowed else settings.refused_s
        self._remember(raw, said, max(SHORTEST_S, lasts_s))
        self._measure(result, perf_counter() - began)
        return said

    def _measure(self, result: str, took_s: float) -> None:
        labels: Labels = (("name", self._name), ("result", result))
        self._series.count(f"{PREFIX}webhook_evaluations_total", labels)
        if result != "success" and not self._settings.denies_on_failure:
            self._series.count(f"{PREFIX}webhook_evaluations_fail_open_total", labels)
        name = f"{PREFIX}webhook_duration_seconds"
        self._series.histogram(name, labels, DEFAULT_BUCKETS_S).add(took_s)

    def _remember(self, raw: bytes, said: Said, lasts_s: float) -> None:
        self._known.pop(raw, None)
        if len(self._known) >= REMEMBERED:
            self._known.pop(next(iter(self._known)))
        if len(raw) <= LARGEST:
            self._known[raw] = (said, self._server.clock.monotonic() + lasts_s)

    def _failed(self, why: str) -> Said:
        denies = self._settings.denies_on_failure
        return Said(Verdict.DENY if denies else Verdict.NO_OPINION, "", why)

    def close(self) -> None:
        """Whoever waits is told that the webhook failed."""
        for task in tuple(self._asking.values()):
            task.cancel()


def _read(answer: Object) -> Said:
    """What an answered review says. Raises CallFailed for one that says nothing."""
    from ..webhooks.target import CallFailed

    status = answer.get("status")
    if answer.get("kind") != KIND or not isinstance(status, dict):
        raise CallFailed("the webhook answered no SubjectAccessReview")
    allowed, denied = status.get("allowed") is True, status.get("denied") is True
    reason = str(status.get("reason") or "")
    if allowed and denied:
        why = "webhook subject access review returned both allow and deny response"
        return Said(Verdict.DENY, "", why)
    if allowed:
        return Said(Verdict.ALLOW, reason)
    return Said(Verdict.DENY if denied else Verdict.NO_OPINION, reason)


def _compact(value: Any) -> Any:
    """Without empty fields, as reviews are encoded."""
    if not isinstance(value, dict):
        return value
    shown = ((key, _compact(item)) for key, item in value.items())
    return {key: item for key, item in shown if item not in ("", [], {})}


def _compile(text: str) -> Program:
    from sampan.api import cel
    from sampan.api.cel.definitions import type_of_definition

    try:
        program = cel.compile(text, cel.declared(request=_unescaped(type_of_definition(SPEC))))
    except cel.CompileError as error:
        raise BadDocument(f"matchConditions: compilation failed: {text!r}: {error}") from None
    if str(program.type) != "bool":
        raise BadDocument(f"matchConditions: {text!r}: must evaluate to bool")
    return program


def _unescaped(type_: Type) -> Type:
    """The type with its fields by their own names: here, upstream does not escape `namespace`."""
    from sampan.api.cel.types import Field, ObjectType

    if not isinstance(type_, ObjectType):
        return type_
    known = type_.fields.values()
    fields = {field.key: Field(_unescaped(field.type), field.key) for field in known}
    return ObjectType(type_.name, fields)
