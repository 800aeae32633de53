"""Audit events for a collector elsewhere: lists of them, POSTed to the server of a kubeconfig file,
as upstream's --audit-webhook-config-file in batch mode.

Bounds: `BUFFER` events of `BUFFER_BYTES` wait, and what comes then is lost and counted; a list has
at most `BATCH`, and goes when it has that many or its first has waited for `WAIT_S`; `AT_ONCE` are
under way, each tried five times. Whoever makes a request never waits for any of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.api.errors import Object

from ..webhooks.files import target_of_kubeconfig
from ..webhooks.retrying import ask_again
from ..webhooks.target import CallFailed
from ..webhooks.words import error_in

if TYPE_CHECKING:
    from ..app import Server

log = logging.getLogger("sampan.audit")

BUFFER = 10_000
"""As upstream's --audit-webhook-batch-buffer-size."""
BUFFER_BYTES = 64 << 20
"""Upstream has no such bound: 10,000 of the largest requests would be 30 GB."""
BATCH = 400
WAIT_S = 30.0
"""As upstream's --audit-webhook-batch-max-size and -max-wait."""
AT_ONCE = 8
TIMEOUT_S = 30.0
PAUSE_S = 10.0
"""Before the first repetition, as upstream's --audit-webhook-initial-backoff."""
CLOSE_S = 5.0
"""How long the end of the process waits for what is not delivered."""
HEAD = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['


class AuditWebhook:
    """One collector. A timer while events wait, and a task for each list under way."""

    def __init__(self, server: Server, path: Path) -> None:
        """Raises ValueError (KubeconfigError) for a file that does not say where to call."""
        self._server = server
        self.source = path.read_bytes()
        """The file as it was read."""
        self._target = target_of_kubeconfig(path)
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self.lost = 0
        """Events that did not fit, or that nobody took."""

    def write(self, line: bytes) -> None:
        """Put an encoded event into the next list."""
        if len(self._waiting) >= BUFFER or self._bytes + len(line) > BUFFER_BYTES:
            self.lost += 1
            return
        self._waiting.append(line)
        self._bytes += len(line)
        self._plan()

    def _plan(self) -> None:
        """Send what is due, or see to it that it will be."""
        while len(self._waiting) >= BATCH and len(self._sending) < AT_ONCE:
            self._send()
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WAIT_S, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if len(self._sending) < AT_ONCE:
            self._send()
        self._plan()

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self._bytes -= sum(map(len, lines))
        task = asyncio.get_running_loop().create_task(self._deliver(lines))
        self._sending.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._plan()

    async def _deliver(self, lines: list[bytes]) -> None:
        body = b"".join((HEAD, b",".join(lines), b"]}"))
        try:
            await ask_again(partial(self._post, body), self._server.clock, PAUSE_S)
        except CallFailed as error:
            self.lost += len(lines)
            log.error("audit webhook: %s; %d events are lost", error.message, self.lost)

    async def _post(self, body: bytes) -> Object:
        caller = self._server.webhooks
        answer = await caller.post(self._target, body, TIMEOUT_S, tell_timeout=False)
        failed = error_in(answer.status, answer.header("content-type"), answer.body)
        if failed is not None:
            failed.asks_to_wait = bool(answer.header("retry-after"))
            raise failed
        return {}

    async def close(self) -> None:
        """Deliver what waits, for `CLOSE_S` at most; the rest is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._waiting or self._sending:
                    while self._waiting and len(self._sending) < AT_ONCE:
                        self._send()
                    await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            for task in self._sending:
                task.cancel()
            self.lost += len(self._waiting)
            self._waiting.clear()
