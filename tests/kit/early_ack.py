"""A control plane with its durability guard off, for negative controls: run as a script.

Writes are answered when they are queued, not when they are durable; the journal is held back so
that a kill meets writes that were acknowledged and are nowhere.
"""

from __future__ import annotations

import asyncio
import sys

from sampan.store import engine

HOLD_S = 0.02


def answer_early() -> None:
    landed = engine.Engine._landed

    def flush(self: engine.Engine) -> None:
        """As the engine's own, but the batch counts as landed before the journal has it."""
        if not self._open:
            self._busy = False
            self._idle.set()
            return
        batch = [self._open.popleft() for _ in range(len(self._open))]
        events = [item.event for item in batch]
        loop = asyncio.get_running_loop()
        loop.call_later(HOLD_S, self._journal.append, events, [], self._state.oldest)
        early: asyncio.Future[None] = loop.create_future()
        early.set_result(None)
        landed(self, batch, early)

    engine.Engine._flush = flush  # type: ignore[method-assign]


if __name__ == "__main__":
    from sampan.daemon.control import main

    answer_early()
    sys.exit(main(sys.argv[1:]))
