"""What is on disk comes back; what is damaged is refused."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace

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


async def test_writes_that_go_on_are_no_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CARRY_BYTES", 1)
    monkeypatch.setattr(journal, "QUIET_S", 0.001)
    clock, looked = [100.0], threading.Semaphore(0)

    def monotonic() -> float:
        if threading.current_thread().name == "journal":
            looked.release()
        return clock[0]

    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=monotonic))
    done = threading.Event()
    monkeypatch.setattr(journal.Writer, "carry_over", lambda writer: done.set())
    store = SqliteStore.open(tmp_path / "db")
    await store.put("/a", b"1")
    for _ in range(3):
        # The clock stands still: this was written just now.
        await asyncio.to_thread(looked.acquire)
    assert not done.is_set()
    clock[0] += 1.0
    assert await asyncio.to_thread(done.wait, 10)
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


class Kernel:
    """The kernel's answers, by hand: what stands for `DataSync` in a journal."""

    def __init__(self, file: int) -> None:
        self.begun = 0
        self.asked = asyncio.Event()
        self.refuses = False
        self.error: OSError | None = None
        self.told, self.teller = os.pipe()
        opened.append(self)

    def fileno(self) -> int:
        return self.told

    def begin(self) -> None:
        if self.refuses:
            raise OSError(errno.EAGAIN, "too many")
        self.begun += 1
        self.asked.set()

    def answer(self) -> None:
        self.asked.clear()
        os.write(self.teller, b".")

    def finish(self) -> None:
        os.read(self.told, 1)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        os.close(self.told)
        os.close(self.teller)


opened: list[Kernel] = []


@pytest.fixture
async def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SqliteStore, Kernel]:
    """A store whose log has begun, and the kernel it asks from then on."""
    monkeypatch.setattr(journal, "DataSync", Kernel)
    store = SqliteStore.open(tmp_path / "db")
    await store.put("/first", b"is the thread's")
    return store, opened.pop()


async def test_a_write_is_answered_when_the_kernel_has_synced_it(
    synced: tuple[SqliteStore, Kernel],
) -> None:
    store, kernel = synced
    seen: list[str] = []
    store.subscribe("/", lambda events: seen.extend(e.record.key for e in events if e.record))
    writes = asyncio.gather(store.put("/a", b"1"), store.put("/b", b"2"))
    await kernel.asked.wait()
    later = asyncio.ensure_future(store.put("/c", b"3"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not writes.done()
    assert (seen, store.get("/a"), kernel.begun) == ([], None, 1)
    kernel.answer()
    await writes
    assert seen == ["/a", "/b"]
    await kernel.asked.wait()
    assert (kernel.begun, later.done()) == (2, False)
    kernel.answer()
    await later
    await store.close()


async def test_what_could_not_be_synced_is_not_acknowledged(
    synced: tuple[SqliteStore, Kernel],
) -> None:
    store, kernel = synced
    kernel.error = OSError(errno.EIO, "the disk is gone")
    kernel.answer()
    with pytest.raises(StoreError, match="the disk is gone"):
        await store.put("/a", b"1")
    assert store.get("/a") is None
    assert "the disk is gone" in store.trouble()
    await store.close()


async def test_the_thread_syncs_what_the_kernel_has_no_room_for(
    synced: tuple[SqliteStore, Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, kernel = synced
    kernel.refuses = True
    threads: list[str] = []
    sync = store._journal._writer.sync  # type: ignore[attr-defined]

    def noted() -> None:
        threads.append(threading.current_thread().name)
        sync()

    monkeypatch.setattr(store._journal._writer, "sync", noted)  # type: ignore[attr-defined]
    await store.put("/a", b"1")
    assert (threads, kernel.begun) == (["journal"], 0)
    await store.close()


async def test_a_log_that_begins_again_is_the_threads(
    synced: tuple[SqliteStore, Kernel],
) -> None:
    store, kernel = synced
    await asyncio.to_thread(store._journal._carry_over)  # type: ignore[attr-defined]
    await store.put("/a", b"1")
    assert kernel.begun == 0
    kernel.answer()
    await store.put("/b", b"2")
    assert kernel.begun == 1
    await store.close()


async def test_without_the_kernels_help_the_thread_does_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(file: int) -> None:
        raise OSError(errno.ENOSYS, "no such call")

    monkeypatch.setattr(journal, "DataSync", none)
    before = await fill(tmp_path / "db")
    store = SqliteStore.open(tmp_path / "db")
    assert {record.key: record.value for record in store.range("/").records} == before
    await store.close()


async def test_large_batches_leave_the_loop(synced: tuple[SqliteStore, Kernel]) -> None:
    store, kernel = synced
    await store.put("/large", b"x" * (journal.INLINE_BYTES + 1))
    many = journal.INLINE_ROWS + 1
    await asyncio.gather(*(store.put(f"/many/{number}", b"x") for number in range(many)))
    assert kernel.begun == 0
    await store.close()
