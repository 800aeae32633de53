"""Progress for a person who waits: a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class Progress:
    """`with Progress("starting x") as progress: progress.say("...")`. Writes to stderr."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = ""
        self._status: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status(self._title)
            self._status.start()
        return self

    def say(self, text: str) -> None:
        if self._status is not None:
            self._status.update(f"{self._title}: {text}")
        elif text != self._last:
            print(f"{self._title}: {text}", file=sys.stderr)
        self._last = text

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()
