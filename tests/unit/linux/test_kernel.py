"""The small wrappers against the real kernel, and what of them is pure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.linux import cgroups, inotify, mounts, openat2, processes
from sampan.runtime.limits import sweep
from tests.kit.wire import until

LINES = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 22 0:30 /sub /mnt/with\\040space rw,nosuid shared:5 master:2 - ext4 /dev/sd\\134a rw,errors=x
"""


def test_mountinfo_is_parsed() -> None:
    plain, shared = mounts._parse(iter(LINES.splitlines(keepends=True)))
    assert (plain.kind, plain.target, plain.shared) == ("proc", Path("/proc"), False)
    assert shared.target == Path("/mnt/with space")
    assert shared.source == "/dev/sd\\a"
    assert (shared.root, shared.shared, shared.super_options) == ("/sub", True, "rw,errors=x")


@pytest.mark.parametrize(
    ("shares", "weight"), [(0, 1), (2, 1), (1024, 39), (262_144, 10_000), (10**9, 10_000)]
)
def test_shares_become_weights(shares: int, weight: int) -> None:
    assert cgroups.weight_of_shares(shares) == weight


def test_limits_in_files_of_both_versions() -> None:
    limits = cgroups.Limits(cpu_shares=1024, cpu_quota_us=50_000, memory_bytes=4096, pids=7)
    v1 = {name: value for _, name, value in cgroups._settings(limits, v2=False)}
    assert v1 == {
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "memory.limit_in_bytes": "4096",
        "pids.max": "7",
    }
    v2 = {name: value for _, name, value in cgroups._settings(limits, v2=True)}
    assert v2 == {
        "cpu.weight": "39",
        "cpu.max": "50000 100000",
        "memory.max": "4096",
        "pids.max": "7",
    }


class TestOpenat2:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "root"
        (root / "d").mkdir(parents=True)
        (root / "d/f").write_text("inside")
        (tmp_path / "secret").write_text("outside")
        (root / "up").symlink_to("../secret")
        (root / "absolute").symlink_to("/d/f")
        (root / "magic").symlink_to("/proc/self/cwd")
        return root

    def test_links_stay_inside(self, root: Path) -> None:
        assert openat2.read_in_root(root, "/absolute", 100) == b"inside"
        assert openat2.read_in_root(root, "../../d/f", 3) == b"ins"
        for path in ("up", "/up", "../secret", "magic"):
            with pytest.raises(OSError):
                openat2.read_in_root(root, path, 100)

    def test_beneath_takes_no_links_at_all(self, root: Path) -> None:
        fd = os.open(root, os.O_PATH)
        try:
            os.close(openat2.open_beneath(fd, "d/f", os.O_RDONLY))
            for path in ("absolute", "up", "../secret", "/d/f"):
                with pytest.raises(OSError) as caught:
                    openat2.open_beneath(fd, path, os.O_RDONLY)
                assert caught.value.filename == path
        finally:
            os.close(fd)

    def test_only_regular_files_are_read(self, root: Path) -> None:
        os.mkfifo(root / "fifo")
        for path in ("fifo", "d"):
            with pytest.raises(OSError):
                openat2.read_in_root(root, path, 100)


def test_inotify(tmp_path: Path) -> None:
    fd = inotify.inotify_init()
    try:
        watch = inotify.add_watch(fd, tmp_path, inotify.IN_MOVED_TO | inotify.IN_CREATE)
        assert list(inotify.read_events(fd)) == []
        (tmp_path / "a").touch()
        (tmp_path / "a").rename(tmp_path / "b")
        events = list(inotify.read_events(fd))
        assert [(event.watch, event.name) for event in events] == [(watch, "a"), (watch, "b")]
        with pytest.raises(OSError) as caught:
            inotify.add_watch(fd, tmp_path / "none", inotify.IN_CREATE)
        assert caught.value.filename == str(tmp_path / "none")
    finally:
        os.close(fd)


class TestProcesses:
    async def test_exit_codes_and_error_output(self) -> None:
        done = await processes.run(["/bin/sh", "-c", "echo why >&2; exit 3"], timeout_s=10)
        assert (done.code, done.error) == (3, "why")

    async def test_signals_count_from_128(self) -> None:
        child = processes.spawn(["/bin/sleep", "100"])
        child.kill(signal.SIGTERM)
        assert await child.wait() == 128 + signal.SIGTERM
        assert await child.wait() == 128 + signal.SIGTERM

    async def test_timeout_kills(self) -> None:
        with pytest.raises(TimeoutError):
            await processes.run(["/bin/sleep", "100"], timeout_s=0.01)

    async def test_no_descriptor_leaks(self) -> None:
        leaked = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(leaked, True)
        kept = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        try:
            child = processes.spawn(
                ["/bin/ls", "/proc/self/fd"], stdio=(-3, out_write, -3), keep=(kept,)
            )
            os.close(out_write)
            await child.wait()
            listed = {int(line) for line in os.read(out_read, 1000).split()}
            # 0 to 2, the one that was to be kept, and the listing's own.
            assert listed - {0, 1, 2, kept} != {leaked}
            assert leaked not in listed or leaked == max(listed)
            assert len(listed) == 5
        finally:
            for fd in (leaked, kept, out_read):
                os.close(fd)

    async def test_pidfd_is_of_that_very_process(self) -> None:
        child = processes.spawn(["/bin/sleep", "100"])
        ticks = processes.start_ticks(child.pid)
        fd = processes.open_pidfd(child.pid, ticks)
        assert fd is not None
        assert processes.open_pidfd(child.pid, ticks + 1) is None
        assert not processes.has_ended(fd)
        child.kill()
        await child.wait()
        assert processes.has_ended(fd)
        os.close(fd)
        assert processes.start_ticks(child.pid) == 0

    def test_descendants(self) -> None:
        script = "(sh -c 'sleep 100 & echo ready; wait') & wait"
        child = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        found = processes.descendants(child.pid)
        assert len(found) in (2, 3)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.root
class TestCgroups:
    GROUP = "sampan-test-cgroups/a/b"

    @pytest.fixture(autouse=True)
    def clean(self):
        yield
        top = self.GROUP.partition("/")[0]
        cgroups.kill(top)
        assert cgroups.remove_when_empty(top)

    def test_limits_usage_kill_and_removal(self) -> None:
        limits = cgroups.Limits(cpu_shares=512, cpu_quota_us=50_000, memory_bytes=32 << 20, pids=10)
        cgroups.create(self.GROUP, limits)
        cgroups.create(self.GROUP, limits)
        process = subprocess.Popen(["/bin/sleep", "100"])
        cgroups.attach(self.GROUP, process.pid)
        assert cgroups.processes(self.GROUP) == [process.pid]
        used = cgroups.usage(self.GROUP)
        assert used.memory_limit_bytes == 32 << 20
        assert used.pids == 1
        assert used.processor.quota_us == 50_000
        # A weight of v2 is coarser than shares are.
        assert abs(used.processor.shares - 512) < 30
        assert not cgroups.remove(self.GROUP)
        cgroups.prune(self.GROUP)
        cgroups.kill(self.GROUP)
        assert process.wait() == -signal.SIGKILL
        assert cgroups.remove_when_empty(self.GROUP)
        assert cgroups.usage(self.GROUP) == cgroups.Usage()
        assert cgroups.processes(self.GROUP) == []
        assert cgroups.oom_kills(self.GROUP) == 0

    def test_groups_of_pods_without_containers_go(self) -> None:
        top = self.GROUP.partition("/")[0]
        pods = {name: f"{top}/kubepods/{name}" for name in ("besteffort/pod1", "pod2", "pod3")}
        for group in pods.values():
            cgroups.create(group)
        cgroups.create(f"{pods['pod2']}/podlike")
        cgroups.create(f"{pods['pod3']}/c")
        process = subprocess.Popen(["/bin/sleep", "100"])
        cgroups.attach(f"{pods['pod3']}/c", process.pid)
        assert cgroups.named(top, "pod") == {*pods.values()}
        sweep(top, {pods["besteffort/pod1"]})
        assert cgroups.named(top, "pod") == {pods["besteffort/pod1"], pods["pod3"]}
        process.kill()
        process.wait()
        sweep(top, set())
        assert not cgroups.named(top, "pod")

    def test_errors_name_the_file(self) -> None:
        with pytest.raises(OSError) as caught:
            cgroups.set_limits("sampan-test-cgroups/none", cgroups.Limits(pids=3))
        assert "sampan-test-cgroups/none" in str(caught.value.filename)


ENTER = """
import sys
from pathlib import Path
from sampan.linux import mounts
from sampan.linux.namespaces import (
    enter_node_namespace, in_node_namespace, leave_node_namespace, remove_node_namespace)
run, place = Path(sys.argv[1]), Path(sys.argv[2])
enter_node_namespace(run)
enter_node_namespace(run)
assert in_node_namespace(run)
print(mounts.is_mounted(place))
if not mounts.is_mounted(place):
    mounts.mount_tmpfs(place)
unified = [m for m in mounts.list_mounts() if m.kind == "cgroup2" and "unified" in str(m.target)]
assert not unified
leave_node_namespace(run)
assert not in_node_namespace(run)
assert not mounts.is_mounted(place)
"""


@pytest.mark.root
def test_node_namespace_is_found_again(tmp_path: Path) -> None:
    """A second process sees the first one's mounts; the host sees none, before and after."""
    from sampan.linux.namespaces import remove_node_namespace

    run, place = tmp_path / "run", tmp_path / "place"
    place.mkdir()

    def mounted() -> list[Path]:
        return [at.target for at in mounts.list_mounts() if at.target.is_relative_to(tmp_path)]

    command = [sys.executable, "-c", ENTER, str(run), str(place)]
    answers = [subprocess.run(command, capture_output=True, text=True) for _ in range(2)]
    assert [answer.stderr for answer in answers] == ["", ""]
    assert [answer.stdout.strip() for answer in answers] == ["False", "True"]
    # Where the host's mounts propagate, the folder is made a private mount of its own as well.
    made = mounted()
    remove_node_namespace(run)
    remove_node_namespace(run)
    assert made in ([run / "mnt"], [run, run / "mnt"])
    assert mounted() == []
    assert not list(run.iterdir())


async def test_an_orphan_that_has_a_moment_to_live_is_reaped_when_it_ends(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    said = os.open(tmp_path / "pid", os.O_RDWR | os.O_CREAT)
    processes.become_subreaper()
    try:
        # What the shell leaves behind waits at the pipe.
        script = "exec 3<&0; head -c1 <&3 >&2 & echo $!"
        child = processes.spawn(["sh", "-c", script], stdio=(reader, said, subprocess.DEVNULL))
        assert await child.wait() == 0
        pid = int(os.pread(said, 20, 0))
        processes.reap_orphan(pid)
        processes.reap_orphans("head")
        assert processes.start_ticks(pid)
        os.write(writer, b".")
        await until(lambda: not processes.start_ticks(pid))
    finally:
        processes.become_subreaper(wanted=False)
        for fd in (reader, writer, said):
            os.close(fd)
