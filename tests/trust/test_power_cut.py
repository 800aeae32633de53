"""TRUST row 2: the power is cut at any write; nothing acknowledged is lost, nothing is corrupt."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest

from sampan.store.interface import Event, Record
from sampan.store.journal import Connection, Row, Writer, row_of
from sampan.store.mvcc import State
from sampan.store.sqlite import load, prepare
from tests.kit.disk import Disk, PowerCut
from tests.kit.trust import SLICE, size

SEEDS = size(1_000)
PATH = Path("/state.db")
KEYS = 12
BATCHES = 24

pytestmark = pytest.mark.trust

CARRY_EVERY = 5
"""Batches between two carryings of the log into the database, which the cut may hit as well."""


class ApswConnection:
    """apsw under the name the store's writer calls it by."""

    def __init__(self, disk: Disk) -> None:
        self.raw = apsw.Connection(
            str(PATH),
            vfs=disk.name,
            flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE,
        )

    @property
    def in_transaction(self) -> bool:
        return self.raw.in_transaction

    def execute(self, sql: str, parameters: object = ()) -> object:
        cursor = self.raw.execute(sql, parameters)
        return Rows(cursor)

    def executemany(self, sql: str, parameters: object) -> object:
        return self.raw.executemany(sql, parameters)

    def close(self) -> None:
        self.raw.close(True)


class Rows:
    def __init__(self, cursor: apsw.Cursor) -> None:
        self.cursor = cursor

    def fetchone(self) -> object:
        return self.cursor.fetchone()

    def __iter__(self) -> object:
        return iter(self.cursor)


def events(chance: random.Random) -> list[list[Event]]:
    """Random writes in batches, as the engine would send them."""
    state = State()
    batches = []
    for _ in range(BATCHES):
        batch = []
        for _ in range(chance.choice((1, 1, 2, 3, 5, 8))):
            key = f"/registry/things/{chance.randrange(KEYS)}"
            revision, previous = state.revision + 1, state.get(key)
            if previous is not None and chance.random() < 0.25:
                event = Event(revision, None, previous)
            else:
                value = chance.randbytes(chance.choice((3, 60, 700, 5000)))
                created = previous.created if previous else revision
                event = Event(revision, Record(key, value, created, revision), previous)
            state.apply(event)
            batch.append(event)
        batches.append(batch)
    return batches


def live(batches: list[list[Event]]) -> dict[str, Record]:
    state = State()
    for batch in batches:
        for event in batch:
            state.apply(event)
    return {record.key: record for record in state.range("/", "", 0, 0).records}


def write_until_cut(disk: Disk, batches: list[list[Event]], syncs: bool) -> int:
    """How many batches were acknowledged before the power went."""

    def sync() -> None:
        """fdatasync of the log, as the journal does it."""
        if syncs and disk.work():
            disk.files[f"{PATH}-wal"].sync()

    acknowledged = 0
    connection: Connection = ApswConnection(disk)
    try:
        prepare(connection, PATH, True)
        writer = Writer(connection, sync)
        for batch in batches:
            rows: list[Row] = [row_of(event) for event in batch]
            writer.write(rows)
            writer.sync()
            acknowledged += 1
            if acknowledged % CARRY_EVERY == 0:
                writer.carry_over()
    except (PowerCut, apsw.Error):
        disk.off = True
    connection.close()
    return acknowledged


def survives(seed: int, syncs: bool) -> bool:
    """One crash. True if every acknowledged batch, and no half of one, is there afterwards."""
    chance = random.Random(seed)
    batches = events(chance)
    disk = Disk(f"disk-{seed}-{syncs}", cut_after=chance.randrange(8, 140))
    try:
        acknowledged = write_until_cut(disk, batches, syncs)
        disk.crash(seed)
        connection = ApswConnection(disk)
        prepare(connection, PATH, acknowledged == 0)
        state = load(connection, PATH).state
        found = {record.key: record for record in state.range("/", "", 0, 0).records}
        connection.close()
    finally:
        disk.unregister()
    # The batch under way may have landed or not, but only whole.
    return any(found == live(batches[:count]) for count in (acknowledged, acknowledged + 1))


def test_nothing_acknowledged_is_lost() -> None:
    lost = [
        seed for seed in range(SLICE * SEEDS, (SLICE + 1) * SEEDS) if not survives(seed, syncs=True)
    ]
    assert lost == []


def test_the_test_can_fail() -> None:
    """Negative control: without the sync of the log, acknowledged writes are lost."""
    outcomes = []
    for seed in range(60):
        try:
            outcomes.append(survives(seed, syncs=False))
        except Exception:
            outcomes.append(False)
    assert not all(outcomes)
