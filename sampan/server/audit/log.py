"""The audit log's file: a line of JSON per event, written at the end of each turn of the loop.

Bounds: `BUFFER_BYTES` wait for the end of the turn, then they are written at once; the file is
renamed at `SIZE_BYTES` and `FILES` old ones are kept. What cannot be written is counted and told in
the log, once in a while: a full disk must not stop the cluster. A descriptor that is closed is
never written to: its number may be another file's by then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("sampan.audit")

BUFFER_BYTES = 4 << 20
SIZE_BYTES = 100 << 20
"""As upstream's --audit-log-maxsize in the usual set-ups."""
FILES = 10
TELL_S = 60.0


class Log:
    def __init__(self, path: Path) -> None:
        """Opens the file. Raises OSError."""
        self.path = path
        self.written = 0
        """Events that were put into the log."""
        self.lost = 0
        """Those of them that could not be written."""
        self._lines: list[bytes] = []
        self._waiting = 0
        self._flush: asyncio.Handle | None = None
        self._told_s = -TELL_S
        self._fd = -1
        self._size = 0
        self._open()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size

    def write(self, line: bytes) -> None:
        """Put an encoded event into the log. Behind `close` there is none, and requests still
        end."""
        if self._fd < 0:
            return
        self.written += 1
        self._lines.append(line)
        self._waiting += len(line)
        if self._waiting >= BUFFER_BYTES:
            self.flush()
        elif self._flush is None:
            self._flush = asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        lines, self._lines, self._waiting = self._lines, [], 0
        if not lines:
            return
        data = b"\n".join((*lines, b""))
        try:
            if self._size and self._size + len(data) > SIZE_BYTES:
                self._rotate()
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            self._size += len(data)
        except OSError as error:
            self.lost += len(lines)
            if time.monotonic() - self._told_s >= TELL_S:
                self._told_s = time.monotonic()
                log.error("%s: %s; %d events are lost", self.path, error, self.lost)

    def _rotate(self) -> None:
        """Rename the file and begin another. Names sort by time, as upstream's do. Raises OSError,
        and then goes on with the file there is."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}"
        stem, suffix = self.path.stem, self.path.suffix
        with suppress(FileNotFoundError):  # Somebody has taken it away.
            self.path.rename(self.path.with_name(f"{stem}-{stamp}{suffix}"))
        for old in sorted(self.path.parent.glob(f"{stem}-*{suffix}"))[:-FILES]:
            old.unlink(missing_ok=True)
        before = self._fd
        self._open()
        os.close(before)

    def close(self) -> None:
        """Write what waits; nothing more comes in."""
        self.flush()
        os.close(self._fd)
        self._fd = -1
