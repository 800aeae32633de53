"""Real containers by crun and conmon, in a node's mount namespace of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from sampan.linux import cgroups, inotify, processes
from sampan.runtime.build import Directory, File, ImageConfig, Symlink, build_layer, pack_archive
from sampan.runtime.images import ImageStore
from sampan.runtime.interface import (
    Container,
    ContainerSpec,
    Mount,
    Resources,
    RuntimeFailure,
    Security,
    State,
)
from sampan.runtime.oci import OciRuntime
from sampan.runtime.places import Places
from sampan.runtime.records import read_record, write_record
from sampan.runtime.streams import collect
from sampan.runtime.verbs import delete
from tests.kit.containers import container_spec, mounted_below, next_exit, node_namespace
from tests.kit.images import busybox_archive
from tests.kit.wire import until

pytestmark = pytest.mark.root

LIMIT_S = 30.0
ROOT = "sampan-test-runtime"
# What upstream's runtimes give a container that asks for nothing.
NAMES = """
AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID
SETPCAP SETUID SYS_CHROOT
"""
CAPABILITIES = [f"CAP_{name}" for name in NAMES.split()]
NETWORK = f"/proc/{os.getpid()}/ns/net"
BUSYBOX = File(Path("/bin/busybox").read_bytes())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node's folders, with an image; at the end nothing may be left of all containers."""
    place = tmp_path_factory.mktemp("node")
    with node_namespace(place, ROOT):
        inside = mounted_below(place)
        store = ImageStore(place / "images")
        asyncio.run(_load(store, place))
        yield place
        assert mounted_below(place) == inside
        files = [path.name for path in (place / "run").rglob("*") if not path.is_dir()]
        assert set(files) <= {"mnt", "mnt.lock"}
        assert not list((place / "data/containers").iterdir())


async def _load(store: ImageStore, place: Path) -> None:
    await store.load(busybox_archive(place / "busybox.tar"))
    base = build_layer({"keep": File(b"1"), "gone": File(b"2"), "d/x": File(b"3")})
    top = build_layer({".wh.gone": File(b""), "d/.wh..wh..opq": File(b""), "d/y": File(b"4")})
    box = build_layer({"bin/busybox": BUSYBOX})
    config = ImageConfig(command=["x"])
    (place / "layers.tar").write_bytes(pack_archive([box, base, top], config, "layers:1"))
    await store.load(place / "layers.tar")
    evil = build_layer({"bin/busybox": BUSYBOX, "dev": Symlink("/")})
    (place / "evil.tar").write_bytes(pack_archive([evil], config, "evil:1"))
    await store.load(place / "evil.tar")


@asynccontextmanager
async def opened(place: Path) -> AsyncIterator[OciRuntime]:
    runtime = OciRuntime(place / "data", place / "run", ImageStore(place / "images"), ROOT)
    await runtime.open()
    try:
        yield runtime
    finally:
        await runtime.close()


@pytest.fixture
async def runtime(place: Path) -> AsyncIterator[OciRuntime]:
    async with opened(place) as runtime:
        yield runtime
        await runtime.purge(0.0)


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    """A session that hangs fails its own test instead of the whole run."""
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(LIMIT_S, task.cancel)
    yield
    timer.cancel()


MakeSpec = Callable[..., ContainerSpec]


@pytest.fixture
def spec(place: Path, tmp_path: Path) -> MakeSpec:
    store = ImageStore(place / "images")

    def make(*args: str, image: str = "busybox:test", **fields: Any) -> ContainerSpec:
        found = store.find(image)
        assert found is not None
        values: dict[str, Any] = {
            "cgroup_parent": "kubepods/pod1",
            "security": Security(capabilities=CAPABILITIES),
            "annotations": {"pod": "p1"},
        }
        return container_spec(found.id, args, tmp_path, **{**values, **fields})

    return make


async def run(runtime: OciRuntime, spec: ContainerSpec) -> tuple[Container, list[str]]:
    """Run to the end: the exited container and its log lines."""
    await runtime.create(spec)
    await runtime.start(spec.id)
    ended = await next_exit(runtime)
    assert ended.id == spec.id
    return ended, log_lines(spec)


async def appeared(path: Path) -> None:
    """Until the file is there, by the kernel's word."""
    fd = inotify.inotify_init()
    inotify.add_watch(fd, path.parent, inotify.IN_MOVED_TO | inotify.IN_CREATE)
    async with asyncio.timeout(10):
        while path.name not in os.listdir(path.parent):
            await processes.wait_readable(fd)
            list(inotify.read_events(fd))
    os.close(fd)


def log_lines(spec: ContainerSpec) -> list[str]:
    """ "stream flag text" of each line, without its time."""
    return [line.split(" ", 1)[1] for line in spec.log_path.read_text().splitlines()]


async def test_exit_code_logs_and_surroundings(runtime: OciRuntime, spec: MakeSpec) -> None:
    script = "echo $GREETING; echo problem >&2; hostname; id -u; printf open; exit 3"
    began = time.time()
    ended, lines = await run(runtime, spec("sh", "-c", script, network_namespace=NETWORK))
    assert (ended.exit_code, ended.state, ended.oom_killed) == (3, State.EXITED, False)
    assert began <= ended.created_at <= ended.started_at <= ended.finished_at + 0.1
    assert ended.annotations == {"pod": "p1"}
    assert sorted(lines) == [
        "stderr F problem",
        "stdout F 0",
        "stdout F box",
        "stdout F hello",
        "stdout P open",
    ]
    await runtime.delete(ended.id)
    assert runtime.get(ended.id) is None


async def test_confinement(runtime: OciRuntime, spec: MakeSpec) -> None:
    script = """
    grep -E 'CapEff|CapInh|NoNewPrivs|Seccomp:' /proc/self/status
    mount -t tmpfs x /mnt 2>/dev/null || echo no mount
    (echo 1 > /proc/sys/kernel/panic) 2>/dev/null || echo no sysctl
    touch /sys/x 2>/dev/null || echo no sys
    mknod /tmp/disk b 8 0 && cat /tmp/disk 2>/dev/null || echo no disk
    ls /proc/self/fd | wc -l
    touch /root-file 2>/dev/null || echo read-only root
    """
    security = Security(capabilities=CAPABILITIES, no_new_privileges=True, read_only_root=True)
    tmp = Mount("/tmp", "tmpfs", "tmpfs", ("nosuid",))
    _, lines = await run(runtime, spec("sh", "-c", script, security=security, mounts=[tmp]))
    told = [line.split(" ", 2)[2] for line in lines]
    assert told == [
        "CapInh:\t0000000000000000",
        "CapEff:\t00000000a80425fb",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "no mount",
        "no sysctl",
        "no sys",
        "no disk",
        # Standard input, output, error and the listing's own: nothing of crun or conmon.
        "4",
        "read-only root",
    ]


async def test_kill_and_restart_policy_inputs(runtime: OciRuntime, spec: MakeSpec) -> None:
    long = spec("sleep", "1000")
    await runtime.create(long)
    started = await runtime.start(long.id)
    assert started.state is State.RUNNING
    # The first process of a PID namespace ignores what it has no handler for.
    await runtime.kill(long.id, signal.SIGTERM)
    await runtime.kill(long.id, signal.SIGKILL)
    ended = await next_exit(runtime)
    assert ended.exit_code == 137
    await runtime.kill(long.id, signal.SIGKILL)
    await runtime.delete(long.id)
    await runtime.delete(long.id)


async def test_exec(runtime: OciRuntime, spec: MakeSpec) -> None:
    box = spec("sleep", "1000")
    await runtime.create(box)
    with pytest.raises(RuntimeFailure, match="not running"):
        await runtime.exec(box.id, ["true"])
    await runtime.start(box.id)

    streams = await runtime.exec(box.id, ["sh", "-c", "echo $GREETING; echo e >&2; exit 7"])
    pieces = []
    while (piece := await streams.read()) is not None:
        pieces.append(piece)
    assert sorted(pieces) == [(1, b"hello\n"), (2, b"e\n")]
    assert await streams.wait() == 7

    streams = await runtime.exec(box.id, ["cat"], stdin=True)

    async def feed() -> None:
        await streams.write(b"x" * 300_000)
        await streams.close_stdin()

    answer, _ = await asyncio.gather(collect(streams, 10), feed())
    assert answer == (b"x" * 10, 0)

    streams = await runtime.exec(box.id, ["nonexistent"])
    output, code = await collect(streams, 1000)
    assert code == 127
    assert b"nonexistent" in output

    # What goes on in the background does not keep the session.
    streams = await runtime.exec(box.id, ["sh", "-c", "echo now; sleep 1000 &"])
    assert await collect(streams, 100) == (b"now\n", 0)


async def test_exec_with_terminal(runtime: OciRuntime, spec: MakeSpec) -> None:
    box = spec("sleep", "1000")
    await runtime.create(box)
    await runtime.start(box.id)
    script = "read x; stty size; test -t 0 && echo terminal; exit 5"
    streams = await runtime.exec(box.id, ["sh", "-c", script], tty=True, stdin=True)
    streams.resize(100, 40)
    await streams.write(b"\n")
    output, code = await collect(streams, 1000)
    assert code == 5
    assert output.split() == [b"40", b"100", b"terminal"]


async def test_killed_exec_takes_its_tree_along(runtime: OciRuntime, spec: MakeSpec) -> None:
    box = spec("sleep", "1000")
    await runtime.create(box)
    await runtime.start(box.id)
    streams = await runtime.exec(box.id, ["sh", "-c", "echo up; sleep 999 & sleep 998"])
    assert await streams.read() == (1, b"up\n")
    await streams.kill()
    assert await streams.wait() == 137
    output, _ = await collect(await runtime.exec(box.id, ["ps"]), 10_000)
    assert b"99" not in output


async def test_a_container_ends_although_the_crun_of_an_exec_was_killed(
    runtime: OciRuntime, spec: MakeSpec
) -> None:
    """The kernel ends no process namespace before each process in it has been reaped."""
    box = spec("sleep", "1000")
    await runtime.create(box)
    await runtime.start(box.id)
    streams = await runtime.exec(box.id, ["sh", "-c", "echo up; sleep 998"])
    assert await streams.read() == (1, b"up\n")
    (crun,) = [pid for pid in children() if command(pid) == "crun"]
    os.kill(crun, signal.SIGKILL)
    assert await streams.wait() == 137
    await runtime.kill(box.id, signal.SIGKILL)
    assert (await next_exit(runtime)).exit_code == 137
    await runtime.delete(box.id)
    await until(lambda: not children())


async def test_attach(runtime: OciRuntime, spec: MakeSpec) -> None:
    box = spec(
        "sh", "-c", "while read x; do echo got $x; done; exit 4", stdin=True, stdin_once=True
    )
    await runtime.create(box)
    await runtime.start(box.id)
    streams = await runtime.attach(box.id)
    await streams.write(b"one\n")
    assert await streams.read() == (1, b"got one\n")
    await streams.close_stdin()
    async with asyncio.timeout(10):
        assert await streams.wait() == 4
        assert await streams.read() is None
    await streams.kill()


async def test_attach_to_a_terminal(runtime: OciRuntime, spec: MakeSpec) -> None:
    box = spec("sh", "-c", "read x; stty size; read x", tty=True, stdin=True)
    await runtime.create(box)
    await runtime.start(box.id)
    streams = await runtime.attach(box.id)
    streams.resize(90, 30)
    found = b""
    async with asyncio.timeout(10):
        while b"30 90" not in found:
            await streams.write(b"\n")
            piece = await streams.read()
            assert piece is not None, found
            found += piece[1]
            if b"0 0" in found:
                pytest.skip("the size came after the question")
    await streams.kill()


async def test_command_that_cannot_run(runtime: OciRuntime, spec: MakeSpec) -> None:
    bad = spec("/no/such/program")
    await runtime.create(bad)
    with pytest.raises(RuntimeFailure) as caught:
        await runtime.start(bad.id)
    assert str(caught.value) == (
        "OCI runtime create failed: executable file `/no/such/program` not found in $PATH: "
        "No such file or directory"
    )
    assert (await next_exit(runtime)).exit_code == 128
    await runtime.delete(bad.id)
    await until(lambda: not children())


async def test_out_of_memory(runtime: OciRuntime, spec: MakeSpec) -> None:
    limits = Resources(memory_limit_bytes=16 << 20, cpu_shares=100, pids_limit=50)
    hungry = spec("sh", "-c", "x=aaaa; while true; do x=$x$x; done", resources=limits)
    ended, _ = await run(runtime, hungry)
    assert ended.oom_killed
    assert ended.exit_code == 137


async def test_limits_reach_the_cgroup(runtime: OciRuntime, spec: MakeSpec) -> None:
    box = spec("sleep", "1000", resources=Resources(memory_limit_bytes=64 << 20, pids_limit=50))
    await runtime.create(box)
    await runtime.start(box.id)
    group = f"{ROOT}/kubepods/pod1/{box.id}"
    used = cgroups.usage(group)
    assert used.memory_limit_bytes == 64 << 20
    assert used.pids == 1
    await runtime.delete(box.id)
    assert cgroups.usage(group) == cgroups.Usage()
    assert not any(path.exists() for path in cgroups.hierarchies().directories(group))


async def test_overlay_hides_what_upper_layers_removed(runtime: OciRuntime, spec: MakeSpec) -> None:
    script = "cd /; busybox ls keep gone d 2>&1; busybox rm keep; echo new > d/z; busybox ls d"
    box = spec("/bin/busybox", "sh", "-c", script, image="layers:1")
    _, lines = await run(runtime, box)
    assert [line.split(" ", 2)[2] for line in lines] == [
        "ls: gone: No such file or directory",
        "keep",
        "",
        "d:",
        "y",
        "y",
        "z",
    ]
    # The image is as it was.
    _, lines = await run(runtime, spec("/bin/busybox", "ls", "/d", "/keep", image="layers:1"))
    assert any("keep" in line for line in lines)
    assert not any(line.endswith(" z") for line in lines)


async def test_dev_that_is_a_link_makes_no_device_on_the_host(
    runtime: OciRuntime, spec: MakeSpec
) -> None:
    before = sorted(os.listdir("/"))
    box = spec("/bin/busybox", "test", "-c", "/dev/null", image="evil:1")
    try:
        await run(runtime, box)
    except RuntimeFailure:
        # crun finds no place for its devices below the root: refusing is as good.
        pass
    assert sorted(os.listdir("/")) == before


@pytest.mark.parametrize("path", ["/proc/self/fd/8", "/proc/self/cwd", "proc", "/l"])
async def test_working_directory_that_leads_out(
    runtime: OciRuntime, spec: MakeSpec, place: Path, path: str
) -> None:
    """CVE-2024-21626."""
    if path == "/l":
        layer = build_layer({"l": Symlink("/proc/self/fd/8"), "proc": Directory()})
        (place / "cwd.tar").write_bytes(pack_archive([layer], ImageConfig(), "cwd:1"))
        await ImageStore(place / "images").load(place / "cwd.tar")
    image = "cwd:1" if path == "/l" else "busybox:test"
    with pytest.raises(RuntimeFailure, match="working directory"):
        await runtime.create(spec("pwd", working_dir=path, image=image))
    assert runtime.list() == []


async def test_working_directory_is_made(runtime: OciRuntime, spec: MakeSpec) -> None:
    _, lines = await run(runtime, spec("pwd", working_dir="/srv/deep/er"))
    assert lines == ["stdout F /srv/deep/er"]


async def test_user_volume_and_shared_namespaces(
    runtime: OciRuntime, spec: MakeSpec, tmp_path: Path
) -> None:
    (tmp_path / "vol").mkdir()
    (tmp_path / "vol/in").write_text("from the node\n")
    volume = Mount("/data", str(tmp_path / "vol"), options=("rbind", "ro"))
    first = spec("sleep", "1000")
    await runtime.create(first)
    leader = await runtime.start(first.id)
    script = "id -un; id -G; echo $HOME; cat /data/in; touch /data/x 2>/dev/null || echo ro; ps"
    second = spec(
        "sh",
        "-c",
        script,
        mounts=[volume],
        security=Security(user="app"),
        share_pid_with=leader.pid,
    )
    await runtime.create(second)
    await runtime.start(second.id)
    assert (await next_exit(runtime)).id == second.id
    told = [line.split(" ", 2)[2] for line in log_lines(second)]
    assert told[:4] == ["app", "1000 2000", "/srv/app", "from the node"]
    assert told[4] == "ro"
    assert any("sleep 1000" in line for line in told)


async def test_unknown_user(runtime: OciRuntime, spec: MakeSpec) -> None:
    with pytest.raises(RuntimeFailure, match="unable to find user nobody"):
        await runtime.create(spec("true", security=Security(user="nobody")))


async def test_found_again_by_the_next_agent(place: Path, spec: MakeSpec) -> None:
    """Living, exited while nobody watched, made but not started, and never able to run."""
    living, dying = spec("sleep", "1000"), spec("sh", "-c", "read x; exit 9", stdin=True)
    made, bad = spec("echo", "later"), spec("nonexistent")
    async with opened(place) as first:
        for one in (living, dying, made, bad):
            await first.create(one)
        await first.start(living.id)
        await first.start(dying.id)
        pid = first.get(living.id).pid  # type: ignore[union-attr]
        streams = await first.attach(dying.id)
    await streams.write(b"go\n")
    exit_file = place / "run/exits" / dying.id
    await appeared(exit_file)
    await streams.kill()
    async with opened(place) as second:
        found = {container.id: container for container in second.list()}
        assert found[living.id].state is State.RUNNING
        assert found[living.id].pid == pid
        assert (found[dying.id].state, found[dying.id].exit_code) == (State.EXITED, 9)
        assert found[made.id].state is State.CREATED
        assert (found[bad.id].state, found[bad.id].exit_code) == (State.EXITED, 128)
        assert {(await next_exit(second)).id for _ in range(2)} == {dying.id, bad.id}
        await second.start(made.id)
        assert (await next_exit(second)).exit_code == 0
        assert await collect(await second.exec(living.id, ["echo", "hi"]), 10) == (b"hi\n", 0)
        await second.purge(0.0)


async def test_exited_by_a_reboot(place: Path, spec: MakeSpec) -> None:
    box = spec("sleep", "1000")
    async with opened(place) as first:
        await first.create(box)
        await first.start(box.id)
        path = place / "data/containers" / box.id / "record.json"
        record = read_record(path)
        assert record is not None
        # As the power would: everything of the container ends at once.
        for pid in (record.conmon_pid, record.pid):
            os.kill(pid, signal.SIGKILL)
        await next_exit(first)
    write_record(path, structs.replace(record, boot_id="another boot"))
    async with opened(place) as second:
        container = second.get(box.id)
        assert container is not None
        assert (container.state, container.exit_code) == (State.EXITED, 255)
        assert (container.reason, container.rebooted) == ("Unknown", True)
        assert container.finished_at > container.created_at
        assert not (place / "run/containers" / box.id).exists()
    async with opened(place) as third:
        # When it ended does not change with who looks.
        assert third.get(box.id) == container
        await third.purge(0.0)


async def test_monitor_that_dies(runtime: OciRuntime, place: Path, spec: MakeSpec) -> None:
    box = spec("sleep", "1000")
    await runtime.create(box)
    container = await runtime.start(box.id)
    record = read_record(place / "data/containers" / box.id / "record.json")
    assert record is not None
    pidfd = os.pidfd_open(container.pid)
    os.kill(record.conmon_pid, signal.SIGKILL)
    ended = await next_exit(runtime)
    assert (ended.id, ended.exit_code) == (box.id, 137)
    async with asyncio.timeout(5):
        await processes.wait_readable(pidfd)
    os.close(pidfd)
    await until(lambda: not children())


def children(pid: int = 0) -> list[int]:
    """Of a process, this one by default."""
    return list(processes._children(pid or os.getpid()))


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


async def test_half_made_containers_are_swept(place: Path, spec: MakeSpec) -> None:
    """A crash between any two steps of create or delete leaves what `open` removes."""
    box = spec("sleep", "1000")
    async with opened(place) as first:
        await first.create(box)
        container = await first.start(box.id)
        pidfd = os.pidfd_open(container.pid)
    (place / "data/containers" / box.id / "record.json").unlink()
    (place / "run/containers/stray").mkdir()
    (place / "data/containers/torn").mkdir()
    (place / "data/containers/torn/record.json").write_text('{"id": "to')
    (place / "run/exits/stray").write_text("0")
    async with opened(place) as second:
        assert second.list() == []
        assert processes.has_ended(pidfd)
    os.close(pidfd)
    for folder in ("run/containers", "data/containers", "run/exits", "run/crun"):
        assert not list((place / folder).iterdir()), folder


async def test_start_is_told_of_a_container_that_ended_before(
    runtime: OciRuntime, spec: MakeSpec
) -> None:
    box = spec("sleep", "1000")
    await runtime.create(box)
    await runtime.kill(box.id, signal.SIGKILL)
    assert (await next_exit(runtime)).exit_code == 137
    with pytest.raises(RuntimeFailure, match="OCI runtime start failed"):
        await runtime.start(box.id)


async def test_an_agent_that_ended_while_starting(
    place: Path, runtime: OciRuntime, spec: MakeSpec
) -> None:
    """The container runs, but nobody has written so: the next start finds that out."""
    box = spec("sleep", "1000")
    await runtime.create(box)
    door = place / "run/crun" / box.id / "exec.fifo"
    fd = os.open(door, os.O_WRONLY)
    os.write(fd, b"\0")
    os.close(fd)
    assert (await runtime.start(box.id)).state is State.RUNNING
    assert await collect(await runtime.exec(box.id, ["echo", "hi"]), 10) == (b"hi\n", 0)


async def test_many_at_once(runtime: OciRuntime, spec: MakeSpec) -> None:
    specs = [spec("sh", "-c", f"exit {number}") for number in range(10)]
    await asyncio.gather(*(runtime.create(one) for one in specs))
    await asyncio.gather(*(runtime.start(one.id) for one in specs))
    codes = {}
    async with asyncio.timeout(20):
        async for container in runtime.exits():
            codes[container.id] = container.exit_code
            if len(codes) == len(specs):
                break
    assert codes == {one.id: number for number, one in enumerate(specs)}


async def test_a_container_is_deleted_once_whoever_asks(
    runtime: OciRuntime, spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor that two would wait for is closed by the first, and then another file's."""
    one = spec("sleep", "1000")
    await runtime.create(one)
    await runtime.start(one.id)
    before = len(os.listdir("/proc/self/fd"))
    deleted: list[str] = []

    async def counted(places: Places, container_id: str, cgroup: str) -> None:
        deleted.append(container_id)
        await delete.delete(places, container_id, cgroup)

    monkeypatch.setattr("sampan.runtime.oci.delete", counted)
    await asyncio.gather(*(runtime.delete(one.id) for _ in range(3)))
    assert deleted == [one.id]
    assert runtime.get(one.id) is None
    assert len(os.listdir("/proc/self/fd")) == before - 2
