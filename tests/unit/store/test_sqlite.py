"""What is on disk comes back; what is damaged is refused."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from sampan.store import engine, journal
from sampan.store.interface import Damaged, StoreError
from sampan.store.sqlite import SqliteStore


async def fill(path: Path, count: int = 40) -> dict[str, bytes]:
    store = SqliteStore.open(path)
    await asyncio.gather(
        *(store.put(f"/registry/a/{n % 7}", b"value %d" % n) for n in range(count))
    )
    await store.delete("/registry/a/3")
    found = {record.key: record.value for record in store.range("/").records}
    await store.close()
    return found


async def test_state_and_history_come_back(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    before = await fill(path)
    assert path.stat().st_mode & 0o777 == 0o600
    store = SqliteStore.open(path)
    assert {record.key: record.value for record in store.range("/").records} == before
    assert store.revision == 41
    events = [event for batch in [store._state.since(0)] for event in batch]
    assert [event.revision for event in events] == list(range(1, 42))
    record = await store.put("/registry/a/0", b"more")
    assert record.modified == 42
    await store.close()


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "state.db")
    await store.put("/registry/a", b"1")
    with pytest.raises(OSError, match="in use"):
        SqliteStore.open(tmp_path / "state.db")
    await store.close()


async def test_compacted_rows_leave_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WINDOW_EVENTS", 10)
    monkeypatch.setattr(journal, "DEAD_PER_DELETE", 5)
    path = tmp_path / "state.db"
    store = SqliteStore.open(path)
    for number in range(100):
        await store.put(f"/registry/a/{number % 3}", b"%d" % number)
    await store.delete("/registry/a/1")
    for number in range(40):
        await store.put("/registry/a/0", b"%d" % number)
    expected = {record.key: record.value for record in store.range("/").records}
    oldest = store.oldest
    await store.close()
    with sqlite3.connect(path) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM log").fetchone()
    connection.close()
    assert rows < 30
    store = SqliteStore.open(path)
    assert {record.key: record.value for record in store.range("/").records} == expected
    assert oldest - 10 <= store.oldest <= oldest
    await store.close()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("UPDATE log SET value = x'00' WHERE revision = 20", "revision 20"),
        ("DELETE FROM log WHERE revision = 20", "revision 20 is missing"),
        ("UPDATE log SET key = 'x' WHERE revision = 5", "revision 5"),
        ("PRAGMA application_id = 7", "not a Sampan database"),
        ("PRAGMA user_version = 99", "newer"),
    ],
)
async def test_damage_is_refused_with_the_way_to_restore(
    tmp_path: Path, harm: str, says: str
) -> None:
    path = tmp_path / "state.db"
    await fill(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(harm)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(Damaged, match=f"{says}.*[Rr]estore"):
        SqliteStore.open(path)
    assert path.read_bytes() == before


async def test_garbage_and_an_emptied_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await fill(path)
    whole = path.read_bytes()
    path.write_bytes(b"\0" * 100 + whole[100:])
    with pytest.raises(Damaged):
        SqliteStore.open(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Damaged):
        SqliteStore.open(path)
    path.unlink()
    (tmp_path / "state.db-wal").write_bytes(b"x")
    with pytest.raises(Damaged, match="missing"):
        SqliteStore.open(path)


async def test_the_log_is_carried_over_when_writes_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CARRY_BYTES", 1_000)
    monkeypatch.setattr(journal, "QUIET_S", 0.0)
    done = threading.Event()
    carry = journal.Writer.carry_over

    def carried(writer: journal.Writer) -> None:
        carry(writer)
        done.set()

    monkeypatch.setattr(journal.Writer, "carry_over", carried)
    store = SqliteStore.open(tmp_path / "db")
    await store.put("/a", b"x" * 500)
    assert not done.is_set()
    await store.put("/b", b"x" * 5_000)
    await asyncio.to_thread(done.wait, 10)
    assert (tmp_path / "db").stat().st_size > 5_000
    await store.put("/c", b"after")
    await store.close()


async def test_a_log_that_cannot_be_carried_over_ends_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CARRY_BYTES", 1)
    monkeypatch.setattr(journal, "QUIET_S", 0.0)
    done = threading.Event()

    def fail(writer: journal.Writer) -> None:
        done.set()
        raise OSError("the disk is gone")

    monkeypatch.setattr(journal.Writer, "carry_over", fail)
    store = SqliteStore.open(tmp_path / "db")
    await store.put("/a", b"1")
    await asyncio.to_thread(done.wait, 10)
    with store._journal._using:  # type: ignore[attr-defined]
        pass  # The thread has noted the failure when it lets go.
    with pytest.raises(StoreError):
        await store.put("/b", b"2")
    await store.close()
