"""One call of one webhook, and what a call that fails means for the write."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sampan.api.errors import BadRequest, InternalError, Object, StatusError

from ...exchange import Write
from ...webhooks.target import CallFailed
from .review import Verdict, denial_of, review_of, verdict_of
from .source import Hook

if TYPE_CHECKING:
    from ...app import Server

log = logging.getLogger("sampan.admission")

CALLING = "calling_webhook_error"
INTERNAL = "apiserver_internal_error"
REJECTED = "no_error"
UNAVAILABLE = 503
"""What a call counts as that brought no HTTP status."""


async def call(server: Server, write: Write, hook: Hook, request: Object) -> Verdict:
    """One call, its answer checked. Raises CallFailed, and the webhook's own no."""
    if write.dry_run and not hook.dry:
        raise BadRequest(f'admission webhook "{hook.name}" does not support dry run')
    if not hook.version:
        raise CallFailed(
            "could not create admission objects: webhook does not accept known AdmissionReview "
            "versions (v1, v1beta1)"
        )
    try:
        target = hook.target
        credentials = server.admission.hooks.credentials.get(hook.kind)
        if credentials is not None:
            target = credentials.shown_to(target)
    except CallFailed as error:
        raise CallFailed(f"could not get REST client: {error.message}") from None
    try:
        review = review_of(hook.version, request)
        answer = await server.webhooks.post_json(target, review, hook.timeout_s)
    except CallFailed as error:
        raise CallFailed(f"failed to call webhook: {error.message}", error.code) from None
    verdict = verdict_of(answer, request["uid"], hook.version, mutating=hook.kind == "admit")
    for name, text in verdict.annotations.items():
        write.annotate(f"{hook.name}/{name}", text)
    write.warnings.extend(verdict.warnings)
    if not verdict.allowed:
        raise denial_of(hook.name, verdict.status)
    return verdict


def fail(
    server: Server,
    write: Write,
    hook: Hook,
    error: CallFailed | StatusError,
    when: tuple[float, str],
) -> None:
    """Raise what the client gets; return when the policy is to go on without the webhook."""
    began, annotation = when
    metrics = server.admission.hooks.metrics
    code = error.code or UNAVAILABLE
    if isinstance(error, StatusError):
        denied = "denied the request" in error.message
        what, code = (REJECTED, code) if denied else (INTERNAL, 0)
        metrics.reject(hook.name, hook.kind, write.operation, (what, code))
        observe(server, write, hook, (True, code, began))
        raise error
    words = f'failed calling webhook "{hook.name}": {error.message}'
    observe(server, write, hook, (not hook.ignore, code, began))
    if hook.ignore:
        metrics.fail_open(hook.name, hook.kind)
        write.annotate(annotation, hook.name)
        log.warning("failing open: %s", words)
        return
    metrics.reject(hook.name, hook.kind, write.operation, (CALLING, code))
    log.warning("failing closed: %s", words)
    raise InternalError(f"Internal error occurred: {words}")


def observe(server: Server, write: Write, hook: Hook, outcome: tuple[bool, int, float]) -> None:
    rejected, code, began = outcome
    server.admission.hooks.metrics.observe(
        hook.name, hook.kind, write.operation, (rejected, code, time.monotonic() - began)
    )
