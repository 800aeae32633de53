"""The journal on disk: SQLite in WAL mode, one row per write.

Table `log`: revision (primary key), key, created, value (NULL for a deletion), crc. The live state
is the newest row of each key; superseded rows stay while the window of history needs them, and are
deleted along with a later batch. How they get there is `journal`'s.

What is damaged is refused, never repaired silently: a row whose checksum differs, a hole in the
window, a file that is no database of ours. A torn tail of the WAL is SQLite's to cut off: those
writes were never acknowledged.

With a codec (`encryption`), the disk holds what it has sealed, and memory the values; the checksum
is of what is on disk. A value that no key opens is refused if it is the newest of its key. Older
ones are history: what was superseded and would be stored otherwise now (another key, or none)
leaves the history, and the disk, at the next start, so that no plain value stays behind.
"""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .encryption import MARK, PLAIN, Codec, Unreadable
from .engine import Engine
from .interface import Damaged, Event, Record
from .journal import Connection, SqliteJournal, Writer, checksum
from .mvcc import State

APPLICATION_ID = 0x53414D50  # "SAMP": so that another program's database is never taken for ours.
FORMAT = 1

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


def prepare(connection: Connection, path: Path, new: bool) -> None:
    """Set the connection up, and make the tables of a new database. Raises Damaged."""
    # Exclusive: no second process, and no shared-memory file that could go stale.
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA journal_mode=WAL")
    # When a commit is durable is `journal`'s to say.
    connection.execute("PRAGMA synchronous=NORMAL")
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
        log = -1
        try:
            state, dead, stale, purged = load(connection, path, codec)
            if codec is not None or purged:
                # What is deleted or written over is zeroed: it may have been a plain value.
                connection.execute("PRAGMA secure_delete=ON")
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            log = os.open(path.with_name(path.name + "-wal"), flags)
            writer = Writer(connection, partial(os.fdatasync, log))
            if purged:
                writer.write((), dead, state.oldest)
                tuple(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
                dead = []
            # The journal's thread does it, when nobody waits.
            connection.execute("PRAGMA wal_autocheckpoint=0")
        except BaseException:
            connection.close()
            if log >= 0:
                os.close(log)
            raise
        store = cls(state, SqliteJournal(writer, log, codec))
        store._dead.extend(dead)
        store.stale = stale
        return store
