"""How batches reach the disk: one INSERT statement each, so a batch is atomic and costs one fsync.

A batch is written by a thread, but for small ones on a disk that has proven fast (`Pace`): there
the hand-over costs more than the write. One statement takes the interpreter lock twice, not twice
per row.

The write-ahead log is carried into the database by the thread, when writes pause (`QUIET_S`) or the
log has grown to `FULL_LOG_BYTES`; SQLite's own way would make some commit wait for it. Until it is
done, writes are the thread's: the event loop never waits for it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import zlib
from collections.abc import Sequence
from typing import Any, Protocol

from .encryption import Codec
from .interface import Event

ROWS_PER_INSERT = 512
"""Bound parameters per statement are limited (32,766); the widths used are powers of two so that
few statement texts exist and all stay prepared."""
INLINE_ROWS = 32
"""Batches up to this may be written without the thread: on a fast disk its hand-overs of the
interpreter lock cost a sixth of every write (measured); larger ones take long enough to share."""
INLINE_BYTES = 128 << 10
"""And up to this: what it takes to write is then bounded too, whatever the objects are."""
FAST_S = 0.001
"""A write that takes less than this holds the event loop no longer than a request does."""
FAST_RUN = 64
"""So many fast writes in a row make the disk a fast one."""
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
    """Writes batches; returns when they are durable."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inserts: dict[int, str] = {}

    def write(self, rows: Sequence[Row], drop: Sequence[int] = (), oldest: int = 0) -> None:
        """Append `rows`, as one. With `drop`, delete those rows and mark history as whole from
        `oldest` on."""
        execute = self._connection.execute
        if not drop and len(rows) & (len(rows) - 1) == 0 and len(rows) <= ROWS_PER_INSERT:
            # One statement is a transaction of its own: one step, one fsync.
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


class Pace:
    """Is the disk so fast that handing a small batch to the thread costs more than waiting?

    Only a run of fast writes says so, and a single slow one takes it back: on a slow disk the event
    loop is never held for longer than one write in `FAST_RUN`.
    """

    def __init__(self) -> None:
        self._run = 0

    def is_fast(self) -> bool:
        return self._run >= FAST_RUN

    def note(self, seconds: float) -> None:
        self._run = self._run + 1 if seconds < FAST_S else 0


Job = tuple[list[Row], Sequence[int], int, asyncio.Future[None]]


class SqliteJournal:
    """A writer in a thread of its own. `append` is called by one loop, one batch at a time."""

    def __init__(self, writer: Writer, codec: Codec | None = None) -> None:
        self._writer = writer
        self._codec = codec
        self._dead: list[int] = []
        self._pace = Pace()
        self._grown = 0
        """Bytes written since the log was carried over last."""
        self._broken: BaseException | None = None
        self._using = threading.Lock()
        """Held by whoever uses the connection."""
        self._jobs: queue.SimpleQueue[Job | bool] = queue.SimpleQueue()
        """Batches; True says that the log has grown, False that this is the end."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

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
        before = self._grown
        size = sum(len(row[3]) for row in rows if row[3] is not None)
        self._grown += size
        if before < CARRY_BYTES <= self._grown:
            self._jobs.put(True)
        small = len(rows) <= INLINE_ROWS and size <= INLINE_BYTES and not drop
        if small and self._pace.is_fast() and self._using.acquire(blocking=False):
            try:
                self._write_here(rows, done)
            finally:
                self._using.release()
        else:
            self._jobs.put((rows, drop, oldest, done))
        return done

    def _write_here(self, rows: list[Row], done: asyncio.Future[None]) -> None:
        """Write without the thread, which has nothing to do: batches come one at a time."""
        began = time.perf_counter()
        try:
            self._writer.write(rows)
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        self._pace.note(time.perf_counter() - began)

    async def close(self) -> None:
        self._jobs.put(False)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        due = False
        while True:
            try:
                job = self._jobs.get(timeout=QUIET_S if due else None)
            except queue.Empty:
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
        began = time.perf_counter()
        try:
            with self._using:
                self._writer.write(rows, drop, oldest)
        except BaseException as failure:
            error = failure
        if len(rows) <= INLINE_ROWS and not drop:
            self._pace.note(time.perf_counter() - began)
        done.get_loop().call_soon_threadsafe(_settle, done, error)

    def _carry_over(self) -> bool:
        """Carry the log over; False, since then it is not due. A failure is that of the next
        write: what the disk holds is not certain any more."""
        with self._using:
            self._grown = 0
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
