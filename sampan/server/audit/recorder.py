"""Puts the audit log around requests.

A request whose rule says None costs the match; every other one gives an event per stage that its
rule does not omit: RequestReceived, ResponseStarted (of streams), ResponseComplete.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api.errors import Object, StatusError
from sampan.api.meta import new_uid
from sampan.api.times import format_micro_time

from ..authz.questions import Undecided
from ..exchange import Answer, Attributes, Request, Response, Stream, User
from ..routes import attributes_of
from .events import (
    complete_ref,
    failed_methods,
    frame,
    request_object,
    response_object,
    response_status,
    without_managed_fields,
)
from .log import Log
from .policy import Level, Policy, Rule

if TYPE_CHECKING:
    from ..app import Server
    from .webhook import AuditWebhook

DECISION = "authorization.k8s.io/decision"
REASON = "authorization.k8s.io/reason"
UNAUTHORIZED = 401
NOBODY = User("")


class Audit:
    """Of one server, by one policy. The next policy's gets its log; `close` it where there is no
    next one."""

    def __init__(
        self, server: Server, policy: Policy, log: Log, webhook: AuditWebhook | None = None
    ) -> None:
        self._server = server
        self._policy = policy
        self.log = log
        self.webhook = webhook

    def begin(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """Answer a request, and write what is to be written of it."""
        entry = self._entry(request)
        if entry is None:
            return self._server.answer(request)
        entry.write("RequestReceived")
        answer = self._server.answer(request)
        if isinstance(answer, Coroutine):
            return self._later(entry, answer)
        return entry.answered(answer)

    async def _later(self, entry: Entry, work: Coroutine[Any, Any, Answer]) -> Answer:
        return entry.answered(await work)

    def refused(self, request: Request, answer: Response) -> None:
        """A request that came no further: nobody was authenticated, or may act as another."""
        unknown = answer.status == UNAUTHORIZED
        if unknown:
            request.user = NOBODY
        entry = self._entry(request)
        if entry is not None and unknown:
            entry.unknown()
        elif entry is not None:
            entry.answered(answer)

    def _entry(self, request: Request) -> Entry | None:
        try:
            attributes = attributes_of(request, self._server.resources)
        except StatusError:
            attributes = Attributes(request.user, request.method.lower(), path=request.path)
        rule = self._policy.rule_for(request.impersonator or request.user, attributes)
        if rule is None:
            return None
        if not request.audit_id:
            # Those of the process itself come without one.
            request.audit_id = new_uid()
        return Entry(self, request, attributes, rule)

    def now(self) -> float:
        return self._server.clock.now()

    def judge(self, attributes: Attributes) -> dict[str, str]:
        """What the authoriser said; it remembers, so asking again costs little."""
        try:
            allowed, reason = self._server.authorizer.authorize(attributes)
        except (StatusError, Undecided):
            # A webhook that failed, or whose answer is forgotten by now.
            return {}
        return {DECISION: "allow" if allowed else "forbid", REASON: reason}

    def write(self, event: Object) -> None:
        """Hand an event to the log, and to whoever else gets them."""
        line = orjson.dumps(event)
        self.log.write(line)
        if self.webhook is not None:
            self.webhook.write(line)

    async def drain(self) -> None:
        """Deliver what the webhook has not got yet, before the process ends."""
        if self.webhook is not None:
            await self.webhook.close()

    def close(self) -> None:
        self.log.close()


class Entry:
    """One audited request."""

    def __init__(self, audit: Audit, request: Request, attributes: Attributes, rule: Rule) -> None:
        self._audit = audit
        self._request = request
        self._attributes = attributes
        self._rule = rule
        self._event = frame(request, attributes, rule, audit.now())

    def write(self, stage: str) -> None:
        if stage in self._rule.omit_stages:
            return
        event: Object = {
            **self._event,
            "stage": stage,
            "stageTimestamp": format_micro_time(self._audit.now()),
        }
        self._audit.write(event)

    def unknown(self) -> None:
        """Write that nobody was authenticated, and by which means it was tried."""
        text = failed_methods(self._request)
        status = {"metadata": {}, "message": text, "code": UNAUTHORIZED}
        self._event["responseStatus"] = status
        self.write("ResponseStarted")

    def answered(self, answer: Answer) -> Answer:
        """Write of an answer; a stream is written of again when it ends."""
        event = self._event
        seen = self._request.attributes or self._attributes
        notes = self._audit.judge(self._attributes) | (seen.annotations or {})
        event["annotations"] = notes
        if self._attributes.resource is not None and notes.get(DECISION) != "forbid":
            # As upstream, which reads no body before the request may be made.
            body = request_object(self._request, self._rule)
            if body is not None:
                event["requestObject"] = body
        if isinstance(answer, Response):
            self._describe(answer)
            self.write("ResponseComplete")
            return answer
        event["responseStatus"] = {"metadata": {}, "code": 101}
        if isinstance(answer, Stream):
            event["responseStatus"] = {"metadata": {}, "code": answer.status}
            self.write("ResponseStarted")
            answer.chunks = self._until_end(answer.chunks)
            return answer
        self.write("ResponseStarted")
        splice = answer.splice

        async def spliced(transport: Any, received: bytes) -> None:
            try:
                await splice(transport, received)
            finally:
                self.write("ResponseComplete")

        answer.splice = spliced
        return answer

    async def _until_end(self, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
            self.write("ResponseComplete")

    def _describe(self, answer: Response) -> None:
        """Status and, if the rule wants it, the object of an answer."""
        wanted = self._rule.level is Level.REQUEST_RESPONSE
        # Of a success only the changed object's name and version are of interest to the rest.
        small = self._attributes.verb not in ("list", "watch", "get")
        obj = response_object(answer) if wanted or small or answer.status >= 400 else None
        self._event["responseStatus"] = response_status(answer, obj)
        if obj is None:
            return
        if obj.get("kind") != "Status":
            complete_ref(self._event, obj)
        if wanted and self._attributes.resource is not None:
            omit = self._rule.omit_managed_fields
            self._event["responseObject"] = without_managed_fields(obj) if omit else obj
