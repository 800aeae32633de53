"""kill: one signal to the first process, by pidfd, so never to a later owner of its number."""

from __future__ import annotations

from ...linux import processes


def kill(pidfd: int | None, signal: int) -> None:
    """A process that has ended is fine."""
    if pidfd is not None:
        processes.send_signal(pidfd, signal)
