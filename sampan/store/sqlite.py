"""The journal on disk: SQLite in WAL mode, synchronous=FULL, one row per write.

Table `log`: revision (primary key), key, created, value (NULL for a deletion), crc. The live state
is the newest row of each key; superseded rows stay while the window of history needs them, and are
deleted along with a later batch. A batch is one INSERT statement, so it is atomic, costs one fsync,
and takes the interpreter lock twice, not twice per row. It is written by a thread, but for small
batches on a disk that has proven fast (`Pace`): there the hand-over costs more than the write.

The write-ahead log is carried into the database by the thread, when writes pause (`QUIET_S`) or the
log has grown to `FULL_LOG_BYTES`; SQLite's own way would make some commit wait for it. Until it is
done, writes are the thread's: the event loop never waits for it.

What is damaged is refused, never repaired silently: a row whose checksum differs, a hole in the
window, a file that is no database of ours. A torn tail of the WAL is SQLite's to cut off: those
writes were never acknowledged.

With a codec (`encryption`), the disk holds what it has sealed, and memory the values; the checksum
is of what is on disk. A value that no key opens is refused if it is the newest of its key. Older
ones are history: what was superseded and would be stored otherwise now (another key, or none)
leaves the history, and the disk, at the next start, so that no plain value stays behind.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .encryption import MARK, PLAIN, Codec, Unreadable
from .engine import Engine
from .interface import Damaged, Event, Record
from .mvcc import State

APPLICATION_ID = 0x53414D50  # "SAMP": so that another program's database is never taken for ours.
FORMAT = 1
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

SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    revision INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    created INTEGER NOT NULL,
    value BLOB,
    crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""

RESTORE = (
    "Nothing was changed. Restore the data folder from a backup, or remove it with "
    "'sampan down --purge' to begin with an empty cluster."
)

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


def connect(path: Path) -> sqlite3.Connection:
    """Open or make the database. Raises Damaged; OSError when it is in use or not writable."""
    if not path.exists() and path.with_name(path.name + "-wal").exists():
        raise Damaged(f"{path} is missing but its write-ahead log is there. {RESTORE}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    new = os.fstat(descriptor).st_size == 0
    os.close(descriptor)
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=64, timeout=2.0
    )
    try:
        prepare(connection, path, new)
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise OSError(f"{path} is in use by another process") from error
        raise Damaged(f"{path} cannot be opened: {error}. {RESTORE}") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise Damaged(f"{path} is damaged: {error}. {RESTORE}") from error
    except Damaged:
        connection.close()
        raise
    return connection


def prepare(connection: Connection, path: Path, new: bool, synchronous: str = "FULL") -> None:
    """Set the connection up, and make the tables of a new database. Raises Damaged.

    `synchronous` is FULL but in the test that shows that NORMAL loses acknowledged writes.
    """
    # Exclusive: no second process, and no shared-memory file that could go stale.
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("BEGIN IMMEDIATE")
    _identify(connection, path, new)
    connection.execute("COMMIT")


def _identify(connection: Connection, path: Path, new: bool) -> None:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if mark == 0 and tables == 0 and new:
        for statement in SCHEMA.split(";"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={FORMAT}")
    elif mark == 0 and tables == 0:
        raise Damaged(f"{path} holds no data any more. {RESTORE}")
    elif mark != APPLICATION_ID:
        raise Damaged(f"{path} is not a Sampan database. {RESTORE}")
    elif version > FORMAT:
        raise Damaged(f"{path} was written by a newer Sampan (format {version}). {RESTORE}")


class Loaded(NamedTuple):
    """What was found on disk."""

    state: State
    dead: list[int]
    """Revisions of rows nothing needs any more."""
    stale: set[int]
    """Revisions of live values that would be stored otherwise now (`encryption`)."""
    purged: bool
    """Is among the dead what must not stay on disk?"""


class _Opener:
    """Opens stored values, and keeps account of those that are not as they would be stored now."""

    def __init__(self, codec: Codec | None) -> None:
        self._codec = codec
        self.unread: dict[str, tuple[int, str]] = {}
        """Live values no key opens: key -> revision, why."""
        self.stale: set[int] = set()
        self.barrier = 0
        """History up to this revision shows values that are not as they would be stored now."""

    def open(self, revision: int, key: str, data: bytes) -> bytes:
        codec = self._codec
        if codec is None and not data.startswith(MARK):
            return data
        try:
            value, stale = (codec or PLAIN).open(key, data)
        except Unreadable as error:
            self.unread[key] = (revision, str(error))
            return b""
        if stale:
            self.stale.add(revision)
        return value

    def supersede(self, revision: int, previous: Record | None) -> None:
        """Revision `revision` is written over `previous`."""
        if previous is None:
            return
        if previous.modified in self.stale or previous.key in self.unread:
            self.stale.discard(previous.modified)
            self.unread.pop(previous.key, None)
            self.barrier = revision

    def check(self, path: Path) -> None:
        """Raises Damaged for live values no key opens."""
        for key, (revision, why) in self.unread.items():
            what = key if self._codec is None else self._codec.describe(key)
            raise Damaged(
                f"{path}: {what} (key {key}, revision {revision}) cannot be decrypted: {why}. "
                f"Nothing was changed. Put its key back into the encryption configuration; "
                f"{len(self.unread)} value(s) cannot be read."
            )


def load(connection: Connection, path: Path, codec: Codec | None = None) -> Loaded:
    """What is on disk. Raises Damaged."""
    state = State()
    opener = _Opener(codec)
    try:
        row = connection.execute("SELECT value FROM meta WHERE name = 'compacted'").fetchone()
        compacted = row[0] if row else 0
        dead: list[int] = []
        expected = compacted + 1
        rows = connection.execute("SELECT revision, key, created, value, crc FROM log ORDER BY 1")
        for revision, key, created, value, crc in rows:
            if crc != checksum(revision, key, value):
                raise Damaged(f"{path}: revision {revision} ({key}) is damaged. {RESTORE}")
            if revision > compacted:
                if revision != expected:
                    raise Damaged(f"{path}: revision {expected} is missing. {RESTORE}")
                expected += 1
            previous = state.get(key)
            if value is None and previous is None:
                if revision > compacted:
                    raise Damaged(f"{path}: what revision {revision} deleted is gone. {RESTORE}")
                # A deletion whose subject is compacted away; it leaves with the next deletion.
                dead.append(revision)
                state.revision = revision
                continue
            opener.supersede(revision, previous)
            record = None
            if value is not None:
                record = Record(key, opener.open(revision, key, value), created, revision)
            state.apply(Event(revision, record, previous))
            if revision <= compacted:
                # Already outside the window, but not deleted before the process ended.
                _discard(state, revision, dead)
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{path} is damaged: {error}. {RESTORE}") from error
    opener.check(path)
    state.revision = max(state.revision, compacted)
    state.forget(compacted + 1)
    if opener.barrier:
        _discard(state, opener.barrier, dead)
    return Loaded(state, dead, opener.stale, opener.barrier > 0)


def _discard(state: State, revision: int, dead: list[int]) -> None:
    for event in state.forget(revision + 1):
        if event.previous is not None:
            dead.append(event.previous.modified)
        if event.record is None:
            dead.append(event.revision)


class SqliteStore(Engine):
    """The embedded store."""

    @classmethod
    def open(cls, path: Path, codec: Codec | None = None) -> SqliteStore:
        """Open or create the store at `path` (0600). Raises Damaged, OSError."""
        connection = connect(path)
        try:
            state, dead, stale, purged = load(connection, path, codec)
            if codec is not None or purged:
                # What is deleted or written over is zeroed: it may have been a plain value.
                connection.execute("PRAGMA secure_delete=ON")
            writer = Writer(connection)
            if purged:
                writer.write((), dead, state.oldest)
                tuple(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
                dead = []
            # The journal's thread does it, when nobody waits.
            connection.execute("PRAGMA wal_autocheckpoint=0")
        except BaseException:
            connection.close()
            raise
        store = cls(state, SqliteJournal(writer, codec))
        store._dead.extend(dead)
        store.stale = stale
        return store
