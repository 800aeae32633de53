"""Container logs: tail, since, limits, partial lines, following."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from sampan.node import keeping, logs
from sampan.node.keeping import KeptLogs
from sampan.node.logs import Formatter, LogOptions, read_log, tail_offset, tail_text
from sampan.node.rotation import Rotation, rotated
from sampan.runtime.interface import Container, State
from tests.kit.clock import FakeClock, settle

LINES = (
    b"2026-01-01T00:00:01.000000000+00:00 stdout F one\n"
    b"2026-01-01T00:00:02.500000000+00:00 stderr F two\n"
    b"2026-01-01T00:00:03.000000000+00:00 stdout P thr\n"
    b"2026-01-01T00:00:03.000000001+00:00 stdout F ee\n"
    b"2026-01-01T00:00:04.000000000+00:00 stdout F \n"
)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (LogOptions(), b"one\ntwo\nthree\n\n"),
        (LogOptions(stream=b"stderr"), b"two\n"),
        (LogOptions(limit_bytes=5), b"one\nt"),
        (LogOptions(since_s=1767225602.5), b"two\nthree\n\n"),
        (LogOptions(since_s=1767225602.6), b"three\n\n"),
        (
            LogOptions(timestamps=True, since_s=1767225603),
            b"2026-01-01T00:00:03.000000000Z three\n2026-01-01T00:00:04.000000000Z \n",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_format(options: LogOptions, text: bytes, size: int) -> None:
    formatter = Formatter(options)
    blocks = (LINES[at : at + size] for at in range(0, len(LINES), size))
    assert b"".join(map(formatter.feed, blocks)) == text


@pytest.mark.parametrize("block", [3, 64, 1 << 16])
def test_tail_reads_from_the_end(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "BLOCK_BYTES", block)
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(100)))
    with path.open("rb") as file:
        assert path.read_bytes()[tail_offset(file.fileno(), 2) :] == b"98\n99\n"
        assert tail_offset(file.fileno(), 1000) == 0
        assert tail_offset(file.fileno(), 0) == path.stat().st_size


def test_last_words(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LINES)
    assert tail_text(path, 3, 2048) == "three\n\n"
    assert tail_text(path, 80, 4) == "ee\n\n"
    assert tail_text(tmp_path / "none", 80, 4) == ""


async def test_follow_sees_what_is_written_and_ends_with_the_container(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LINES)
    running, pulse = True, asyncio.Event()

    async def changed() -> None:
        await pulse.wait()

    stream = read_log(path, LogOptions(follow=True, tail_lines=1), lambda: running, changed)
    assert await anext(stream) == b"\n"
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    with path.open("ab") as file:
        file.write(LINES.splitlines(keepends=True)[0])
    assert await asyncio.wait_for(waiting, 5) == b"one\n"
    ending = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0)
    running = False
    pulse.set()
    assert await asyncio.wait_for(ending, 5) is None


async def test_follow_goes_on_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(LINES)
    stream = read_log(
        path, LogOptions(follow=True, tail_lines=2), lambda: True, asyncio.Event().wait
    )
    assert await anext(stream) == b"ee\n\n"
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    path.rename(tmp_path / "0.log.1")
    path.write_bytes(LINES.splitlines(keepends=True)[0])
    assert await asyncio.wait_for(waiting, 5) == b"one\n"
    await stream.aclose()  # type: ignore[attr-defined]


def container(path: Path) -> Container:
    return Container(
        id="id", image="", state=State.RUNNING, pid=1, created_at=0, started_at=0, finished_at=0,
        exit_code=0, oom_killed=False, annotations={}, log_path=path,
    )  # fmt: skip


def test_rotation_keeps_the_last_files(tmp_path: Path) -> None:
    path, clock = tmp_path / "0.log", FakeClock()
    found = Rotation(lambda: [container(path)], lambda _: path.touch(), clock, (14, 5))
    path.write_bytes(b"s")
    assert not found.look()
    for second in range(7):
        path.write_bytes(b"long enough %d\n" % second)
        assert found.look()
    assert path.read_bytes() == b""
    assert [old.read_bytes() for old in rotated(path)] == [
        b"long enough %d\n" % second for second in range(3, 7)
    ]
    # A flood that came all at once leaves nothing behind that is larger than all may be.
    path.write_bytes(b"x" * 100)
    found.look()
    assert not rotated(path)


def test_what_an_ended_container_said_is_cut_too(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(b"line %03d\n" % number for number in range(100)))
    ended = replace(container(path), state=State.EXITED)
    found = Rotation(lambda: [ended], lambda _: None, FakeClock(), (20, 5))
    assert not found.look()
    assert path.read_bytes().splitlines()[0] == b"line 089"
    assert path.read_bytes().endswith(b"line 099\n")


def test_what_an_ended_container_said_counts_with_its_former_files(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    for number in (1, 2):
        path.with_name(f"0.log.{number}").write_bytes(b"former %03d\n" % number)
    path.write_bytes(b"".join(b"line %03d\n" % number for number in range(9)))
    ended = replace(container(path), state=State.EXITED)
    found = Rotation(lambda: [ended], lambda _: None, FakeClock(), (20, 4))
    for _ in range(2):
        found.look()
        assert sum(item.stat().st_size for item in tmp_path.iterdir()) <= 80
        assert path.read_bytes().splitlines()[0] == b"line 003"


@pytest.mark.parametrize("state", [State.RUNNING, State.EXITED])
def test_a_rotation_that_was_broken_off_is_ended(tmp_path: Path, state: State) -> None:
    """The agent was killed after the renaming: the former file went on growing."""
    path = tmp_path / "0.log"
    path.with_name("0.log.1").write_bytes(b"".join(b"line %03d\n" % n for n in range(50)))
    found = replace(container(path), state=state)
    rotation = Rotation(lambda: [found], lambda _: path.touch(), FakeClock(), (20, 3))
    for _ in range(2):
        rotation.look()
    assert path.exists()
    assert sum(item.stat().st_size for item in tmp_path.iterdir()) <= 60
    if state == State.EXITED:
        assert path.read_bytes().endswith(b"line 049\n")


@pytest.mark.parametrize("state", [State.RUNNING, State.EXITED])
def test_former_files_that_a_killed_agent_did_not_prune_are(tmp_path: Path, state: State) -> None:
    """It was killed after the new file had been opened."""
    path = tmp_path / "0.log"
    path.with_name("0.log.1").write_bytes(b"x" * 500)
    path.with_name("0.log.2").write_bytes(b"former")
    if state == State.EXITED:
        path.with_name("0.log.new").write_bytes(b"y" * 50)
    path.write_bytes(b"end")
    found = replace(container(path), state=state)
    Rotation(lambda: [found], lambda _: None, FakeClock(), (20, 3)).look()
    assert sorted(item.read_bytes() for item in tmp_path.iterdir()) == [b"end", b"former"]


async def test_what_grows_fast_is_looked_at_often(tmp_path: Path) -> None:
    path, clock = tmp_path / "0.log", FakeClock()
    looks = 0

    def listed() -> list[Container]:
        nonlocal looks
        looks += 1
        return [container(path)]

    found = Rotation(listed, lambda _: path.touch(), clock, (1000, 5))
    path.write_bytes(b"x" * 300)
    found.beat()
    await settle()
    await clock.advance(1)
    assert looks == 5
    await clock.advance(60)
    assert looks < 50
    found.close()


def test_logs_of_deleted_pods_are_kept_for_a_while(tmp_path: Path) -> None:
    now = 1000.0
    kept = KeptLogs(tmp_path / "deleted-logs", lambda: now)
    for name, runs in (("p", 3), ("never-ran", 0)):
        folder = tmp_path / "logs" / f"default_{name}_uid-{name}"
        (folder / "c").mkdir(parents=True)
        for run in range(runs):
            (folder / "c" / f"{run}.log").write_bytes(b"%d" % run)
        kept.keep(folder)
        assert not folder.exists()
    (found,) = kept.found()
    assert (found.namespace, found.name, found.uid) == ("default", "p", "uid-p")
    assert found.containers() == ["c"]
    last, before = found.log("c"), found.log("c", previous=True)
    assert last is not None
    assert before is not None
    assert (last.read_bytes(), before.read_bytes()) == (b"2", b"1")
    assert found.log("../c") is None
    kept.prune()
    assert kept.found()
    now += keeping.KEPT_S + 1
    kept.prune()
    assert not kept.found()
