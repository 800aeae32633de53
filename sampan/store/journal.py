"""How batches reach the disk: written by the event loop, synced by nobody who waits.

A batch is one INSERT statement, so it is atomic: SQLite appends it to its write-ahead log, which is
no more than a copy of memory, and the kernel is asked to make the log durable and to say when it is
(`linux.datasync`). A thread that waited for the disk would have to take the interpreter's lock back
from the loop for every batch, which costs a third of a write. Large batches, and all where the
kernel cannot be asked, are still a thread's.

SQLite is told `synchronous=NORMAL`: it syncs the log where its own order needs it (a log that
begins again, and before it is carried over), and leaves to us when a commit is durable. One batch
is written at a time, and the next not before this one is durable: what a power cut leaves is the
batches up to some point, as with `FULL`.

The log is carried into the database by the thread, when writes pause (`QUIET_S`) or the log has
grown to `FULL_LOG_BYTES`; SQLite's own way would make some commit wait for it. Until it is done,
writes are the thread's, and so is the first one after it, which begins the log again: the event
loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from sampan.linux.datasync import DataSync

from .encryption import Codec
from .interface import Event

ROWS_PER_INSERT = 512
"""Bound parameters per statement are limited (32,766); the widths used are powers of two so that
few statement texts exist and all stay prepared."""
INLINE_ROWS = 64
"""Batches up to this are written by the event loop; larger ones take long enough to share."""
INLINE_BYTES = 256 << 10
"""And up to this: what it takes to write is then bounded too, whatever the objects are."""
DEAD_PER_DELETE = 10_000
"""Deleting rows waits until this many are due: single deletions would double every commit."""

CARRY_BYTES = 4 << 20
"""The log is carried over when it has grown by this, as SQLite would (1,000 pages)."""
FULL_LOG_BYTES = 32 << 20
"""At this the log is carried over even though writes do not pause: it bounds the file, and the time
to read it at a start."""
QUIET_S = 0.05
"""Writes pause when none comes for this long."""

Row = tuple[int, str, int, bytes | None, int]


def checksum(revision: int, key: str, value: bytes | None) -> int:
    """Over everything a row means; a deletion differs from an empty value."""
    start = zlib.crc32(b"-" if value is None else value)
    return zlib.crc32(f"{revision} {key}".encode(), start)


def row_of(event: Event, codec: Codec | None = None) -> Row:
    record = event.record
    if record is None:
        previous = event.previous
        assert previous is not None
        return (
            event.revision,
            previous.key,
            previous.created,
            None,
            checksum(event.revision, previous.key, None),
        )
    value = record.value if codec is None else codec.seal(record.key, record.value)
    crc = checksum(event.revision, record.key, value)
    return event.revision, record.key, record.created, value, crc


class Connection(Protocol):
    """What is used of a database connection (sqlite3's; the tests bring one on a faulty disk)."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any: ...

    def executemany(self, sql: str, parameters: Any, /) -> Any: ...

    def close(self) -> None: ...


class Writer:
    """Writes batches, which are durable after the next `sync` (it raises OSError if not)."""

    def __init__(self, connection: Connection, sync: Callable[[], None]) -> None:
        self._connection = connection
        self.sync = sync
        self._inserts: dict[int, str] = {}

    def write(self, rows: Sequence[Row], drop: Sequence[int] = (), oldest: int = 0) -> None:
        """Append `rows`, as one. With `drop`, delete those rows and mark history as whole from
        `oldest` on."""
        execute = self._connection.execute
        if not drop and len(rows) & (len(rows) - 1) == 0 and len(rows) <= ROWS_PER_INSERT:
            # One statement is a transaction of its own.
            self._insert(rows)
            return
        execute("BEGIN IMMEDIATE")
        self._insert(rows)
        if drop:
            execute(
                "INSERT INTO meta VALUES ('compacted', ?) ON CONFLICT (name) DO UPDATE"
                " SET value = max(value, excluded.value)",
                (oldest - 1,),
            )
            self._connection.executemany(
                "DELETE FROM log WHERE revision = ?", ((revision,) for revision in drop)
            )
        execute("COMMIT")

    def _insert(self, rows: Sequence[Row]) -> None:
        """Statements come in widths of powers of two (13 rows are 8 + 4 + 1), so that few texts
        exist and all stay prepared."""
        start = 0
        while start < len(rows):
            width = min(ROWS_PER_INSERT, 1 << ((len(rows) - start).bit_length() - 1))
            text = self._inserts.get(width)
            if text is None:
                text = "INSERT INTO log VALUES " + ",".join(["(?,?,?,?,?)"] * width)
                self._inserts[width] = text
            chunk = rows[start : start + width]
            self._connection.execute(text, [field for row in chunk for field in row])
            start += width

    def carry_over(self) -> None:
        """Carry the write-ahead log into the database."""
        tuple(self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)"))

    def close(self) -> None:
        self._connection.close()


Job = tuple[list[Row], Sequence[int], int, asyncio.Future[None]]


class SqliteJournal:
    """Batches to a `Writer` whose log is open as `file`. `append` is called by one loop, one batch
    at a time. Both are the journal's to close."""

    def __init__(self, writer: Writer, file: int, codec: Codec | None = None) -> None:
        self._writer = writer
        self._file = file
        self._codec = codec
        self._dead: list[int] = []
        self._grown = 0
        """Bytes written since the log was carried over last."""
        self._wrote = 0.0
        """When the last batch came."""
        self._broken: BaseException | None = None
        self._begins = True
        """Will the next batch begin the log? Then SQLite waits for the disk."""
        self._sync: DataSync | None = None
        self._synced: asyncio.Future[None] | None = None
        """Of the batch the kernel is syncing."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where the kernel's answer is waited for."""
        self._using = threading.Lock()
        """Held by whoever uses the connection."""
        self._jobs: queue.SimpleQueue[Job | bool] = queue.SimpleQueue()
        """Batches; True says that the log has grown, False that this is the end."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()
        with suppress(OSError):
            self._sync = DataSync(file)

    def append(
        self, events: Sequence[Event], dead: Sequence[int], oldest: int
    ) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._broken is not None:
            done.set_exception(self._broken)
            return done
        self._dead.extend(dead)
        drop: Sequence[int] = ()
        if len(self._dead) >= DEAD_PER_DELETE:
            drop, self._dead = self._dead, []
        rows = [row_of(event, self._codec) for event in events]
        self._wrote = time.monotonic()
        before = self._grown
        size = sum(len(row[3]) for row in rows if row[3] is not None)
        self._grown += size
        if before < CARRY_BYTES <= self._grown:
            self._jobs.put(True)
        small = len(rows) <= INLINE_ROWS and size <= INLINE_BYTES and not drop
        if not (small and self._sync is not None and self._write_here(self._sync, rows, done)):
            self._jobs.put((rows, drop, oldest, done))
        return done

    def _write_here(self, sync: DataSync, rows: list[Row], done: asyncio.Future[None]) -> bool:
        """Write without the thread, unless the connection is used or the disk would be waited
        for. False: nothing was done."""
        if self._synced is not None or not self._using.acquire(blocking=False):
            return False
        try:
            if self._begins:
                return False
            self._writer.write(rows)
        except BaseException as error:
            done.set_exception(error)
            return True
        finally:
            self._using.release()
        try:
            sync.begin()
        except OSError:
            # The kernel has no room for it now: the thread syncs what is written.
            self._jobs.put(([], (), 0, done))
            return True
        self._synced = done
        if self._loop is None:
            self._loop = done.get_loop()
            self._loop.add_reader(sync.fileno(), self._finish, sync)
        return True

    def _finish(self, sync: DataSync) -> None:
        """The kernel has synced the log, or could not."""
        done, self._synced = self._synced, None
        assert done is not None
        error: BaseException | None = None
        try:
            sync.finish()
        except OSError as failure:
            error = failure
        _settle(done, error)

    async def close(self) -> None:
        """Let the thread end what it was given; nothing may be with the kernel any more."""
        self._jobs.put(False)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        if self._sync is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._sync.fileno())
            self._sync.close()
        os.close(self._file)

    def _run(self) -> None:
        due = False
        while True:
            try:
                job = self._jobs.get(timeout=QUIET_S if due else None)
            except queue.Empty:
                # What the loop writes by itself is no job.
                quiet = time.monotonic() - self._wrote >= QUIET_S
                if quiet or self._grown >= FULL_LOG_BYTES:
                    due = self._carry_over()
                continue
            if job is False:
                break
            if not isinstance(job, bool):
                self._write(job)
            due = due or self._grown >= CARRY_BYTES
            if self._grown >= FULL_LOG_BYTES:
                due = self._carry_over()
        self._writer.close()

    def _write(self, job: Job) -> None:
        rows, drop, oldest, done = job
        error: BaseException | None = None
        try:
            with self._using:
                self._writer.write(rows, drop, oldest)
                self._begins = False
                self._writer.sync()
        except BaseException as failure:
            error = failure
        done.get_loop().call_soon_threadsafe(_settle, done, error)

    def _carry_over(self) -> bool:
        """Carry the log over; False, since then it is not due. A failure is that of the next
        write: what the disk holds is not certain any more."""
        with self._using:
            self._grown = 0
            self._begins = True
            try:
                self._writer.carry_over()
            except BaseException as failure:
                self._broken = failure
        return False


def _settle(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
