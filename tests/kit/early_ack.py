"""A control plane with its durability guard off, for negative controls: run as a script.

Writes are answered when they are queued, not when they are durable; the journal is held back so
that a kill meets writes that were acknowledged and are nowhere.
"""

from __future__ import annotations

import asyncio
import sys
import time

from sampan.store import engine, journal

HOLD_S = 0.02


def answer_early() -> None:
    landed = engine.Engine._landed
    write = journal.Writer.write

    def flush(self: engine.Engine) -> None:
        """As the engine's own, but the batch counts as landed before the journal has it."""
        if not self._open:
            self._busy = False
            self._idle.set()
            return
        batch = [self._open.popleft() for _ in range(len(self._open))]
        events = [item.event for item in batch]
        future = self._journal.append(events, [], self._state.oldest)
        future.add_done_callback(lambda done: done.exception())
        early: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        early.set_result(None)
        landed(self, batch, early)

    def held(self: journal.Writer, *arguments: object) -> None:
        time.sleep(HOLD_S)
        write(self, *arguments)  # type: ignore[arg-type]

    engine.Engine._flush = flush  # type: ignore[method-assign]
    journal.Writer.write = held  # type: ignore[method-assign]


if __name__ == "__main__":
    from sampan.daemon.control import main

    answer_early()
    sys.exit(main(sys.argv[1:]))
