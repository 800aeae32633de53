"""Volumes in real containers of one cluster: upstream's conformance behaviours of sig-storage, and
what volumes must never do. All pods are made at once; each test reads what its own have said."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from sampan.linux import mounts
from tests.kit.cli import User
from tests.kit.images import busybox_archive
from tests.kit.machine import NOTHING, traces
from tests.kit.nfsserver import nfs_server
from tests.kit.ports import free_port
from tests.system import device_scenes as devices
from tests.system import volume_scenes as scenes

pytestmark = pytest.mark.root

# An update has to be there within a second; a machine under load is given more than that.
PATIENCE_S = 5.0
PODS_OF_SHARE = ("nfs-claim", "nfs-inline", "nfs-reader")
ROOT = Path(__file__).resolve().parents[2]
SUCCEEDED = "--for=jsonpath={.status.phase}=Succeeded"


class World:
    """The cluster, and what its pods have said."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.said: dict[str, list[str]] = {}

    def apply(self, *objects: scenes.Obj) -> None:
        body = {"apiVersion": "v1", "kind": "List", "items": [*objects]}
        self.user.kubectl("apply", "-f", "-", text=json.dumps(body)).ok

    def finish(self, names: list[str]) -> None:
        """Wait until the pods have ended, and keep what they said."""
        done = [f"pod/{name}" for name in names]
        waited = self.user.kubectl("wait", *done, SUCCEEDED, "--timeout=60s")
        assert waited.code == 0, self.user.kubectl("get", "pods,events").out
        with ThreadPoolExecutor(4) as pool:
            logs = pool.map(lambda name: self.user.kubectl("logs", name, "-c", "c"), names)
        self.said |= {name: log.out.splitlines() for name, log in zip(names, logs, strict=True)}

    def events(self, pod: str) -> list[str]:
        """Messages of a pod's events, once there is a warning."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = self.user.get("events", f"--field-selector=involvedObject.name={pod}")["items"]
            if any(item["type"] == "Warning" for item in found):
                return [item["message"] for item in found]
            assert time.monotonic() < end, found

    def run(self, pod: str, script: str) -> str:
        return self.user.kubectl("exec", pod, "--", "sh", "-c", script).out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("volumes")
    (folder / "home").mkdir()
    user = User(f"vol{os.getpid()}", folder / "data", folder / "home")
    archive = busybox_archive(folder / "busybox.tar", "docker.io/library/busybox:test")
    try:
        user.sampan("up", "--listen", f"127.0.0.1:{free_port()}").ok
        user.sampan("image", "load", str(archive)).ok
        world = World(user)
        pods = scenes.short()
        world.apply(*scenes.objects(), scenes.living(), *pods)
        names = [item["metadata"]["name"] for item in pods]
        world.finish([name for name in names if name != "scratch-shared"])
        yield world
    finally:
        user.sampan("down", "--purge").ok
    assert traces(user.name, user.data) == NOTHING


# What comes from the API


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_keys_are_files(world: World, kind: str) -> None:
    assert of_kind(world.said["root"], kind) == [
        "plain/data-1 644 value-1",
        "mode/data-1 400 value-1",
        "again/data-1 644 value-1",
        "items/path/to/data-2 644 value-2",
        "itemmode/path/to/data-2 400 value-2",
    ]


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_users_read_them(world: World, kind: str) -> None:
    assert world.said["user"][0] == world.said["group"][0] == "1000"
    assert of_kind(world.said["user"], kind) == [
        "plain/data-1 644 value-1",
        "items/path/to/data-2 644 value-2",
    ]
    assert of_kind(world.said["group"], kind) == ["wide/data-1 440 value-1"]


def of_kind(said: list[str], kind: str) -> list[str]:
    start = f"{kind}-".lower()
    return [line.removeprefix(start) for line in said if line.startswith(start)]


def test_binary_data(world: World) -> None:
    assert world.said["binary"] == ["value-1", " de ca fe ba d0"]


def test_many_volumes_and_mixed_ones(world: World) -> None:
    for number in range(5):
        assert world.said[f"wide-{number}"] == [str(scenes.WIDE_MAPS)]
    assert world.said["both"] == ["/v/s/data-1 644 value-1", "/v/m/data-1 644 value-1"]


@pytest.mark.parametrize("kind", ["downward", "projected"])
def test_pods_are_told_of_themselves(world: World, kind: str) -> None:
    said = dict(line.split(" ", 1) for line in world.said["told-limited"])
    wanted = {
        "cpu_limit": "1250", "memory_limit": "64", "cpu_request": "250", "memory_request": "32",
        "podname": "told-limited",
    }  # fmt: skip
    for name, value in wanted.items():
        assert said[f"/v/{kind}-facts/{name}"] == f"644 {value}"
    assert said[f"/v/{kind}-mode/podname"] == "400 told-limited"
    assert said[f"/v/{kind}-item/podname"] == "400 told-limited"


@pytest.mark.parametrize("kind", ["downward", "projected"])
def test_without_limits_the_nodes_are_told(world: World, kind: str) -> None:
    said = dict(line.split(" ", 1) for line in world.said["told-free"])
    found = world.user.get("nodes")["items"][0]["status"]["allocatable"]
    cores, memory = found["cpu"], int(found["memory"].removesuffix("Ki"))
    milli = int(cores[:-1]) if cores.endswith("m") else int(cores) * 1000
    assert said[f"/v/{kind}-facts/cpu_limit"] == f"644 {milli}"
    assert said[f"/v/{kind}-facts/memory_limit"] == f"644 {-(-memory // 1024)}"


def test_projections_combine(world: World) -> None:
    assert world.said["combined"] == [
        "/v/cm 644 value-2",
        "/v/secret 644 value-2",
        "/v/podname 644 combined",
        "/v/cpu_limit 644 1250",
        "/v/memory_request 644 32",
    ]


def test_parts_of_volumes(world: World) -> None:
    assert world.said["parts"] == [
        "/v/configmap 644 value-1",
        "/v/secret 644 value-1",
        "/v/projected 644 value-1",
        "/v/downward 644 parts",
        "/etc/resolv.conf 644 value-2",
    ]


def eventually(read: Callable[[], str], wanted: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while (found := read()) != wanted:
        assert time.monotonic() < end, found


def test_what_changes_reaches_running_pods(world: World) -> None:
    """Made, changed and removed objects; one look at all of them, so that it costs one exec."""
    objects = []
    for kind in scenes.KINDS:
        make = scenes.config if kind.endswith("configMap") else scenes.secret
        for what in ("created", "updated"):
            objects.append(make(f"{what}-{kind}".lower(), **{"data-1": f"new-{what}"}))
    world.apply(*objects)
    names = [f"deleted-{kind}".lower() for kind in scenes.KINDS]
    world.user.kubectl("delete", "configmap,secret", *names, "--ignore-not-found").ok
    script = "cd /v; for f in */data-*; do echo $f $(cat $f); done"
    wanted = sorted(
        f"{what}-{kind.lower()}/data-1 new-{what}"
        for kind in scenes.KINDS
        for what in ("created", "updated")
    )
    eventually(
        lambda: "\n".join(sorted(world.run("living", script).splitlines())), "\n".join(wanted)
    )


def test_labels_and_annotations_reach_running_pods(world: World) -> None:
    world.user.kubectl("label", "pod", "living", "later=yes").ok
    world.user.kubectl("annotate", "pod", "living", "builder=foo").ok
    script = (
        "cd /v; grep -h later downward/labels projected/labels; "
        "grep -h builder downward/annotations projected/annotations"
    )
    wanted = 'later="yes"\nlater="yes"\nbuilder="foo"\nbuilder="foo"\n'
    eventually(lambda: world.run("living", script), wanted)


# emptyDir


@pytest.mark.parametrize("user", [0, 1000])
def test_scratch_space(world: World, user: int) -> None:
    said = world.said[f"scratch-{user}"]
    assert [line for line in said if "content" in line] == [
        f"{medium} {mode} {mode} content"
        for medium in ("default", "tmpfs")
        for mode in (644, 666, 777)
    ]


def test_scratch_space_is_everybodys(world: World) -> None:
    said = world.said["scratch-0"]
    assert {"default 777", "tmpfs 777", "tmpfs tmpfs"} <= set(said)
    assert "default tmpfs" not in said


def test_containers_share_scratch_space(world: World) -> None:
    world.user.kubectl("wait", "pod/scratch-shared", SUCCEEDED, "--timeout=30s").ok
    assert world.user.kubectl("logs", "scratch-shared", "-c", "main").ok == "shared\n"


# Paths of the node


@pytest.fixture(scope="module")
def host(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the host's, with everything that the scenes want, and their pods at work."""
    folder = tmp_path_factory.mktemp("host")
    for name in ("folder", "volume/in", "spread/made", "spread/told"):
        (folder / name).mkdir(parents=True)
    (folder / "file").write_text("file")
    (folder / "outside").write_text("of the host")
    (folder / "volume/out").symlink_to("/")
    (folder / "volume/secret").symlink_to(folder / "outside")
    os.mknod(folder / "char", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        bind_socket(listener, folder / "socket")
        where = str(folder)
        made = [*scenes.host_paths(where), *scenes.tricks(where), scenes.deep(),
                *scenes.spreading(where)]  # fmt: skip
        world.apply(*made)
        yield folder
        names = [f"pod/{item['metadata']['name']}" for item in made]
        world.user.kubectl("delete", "--now", *names).ok


def bind_socket(listener: socket.socket, path: Path) -> None:
    """By its folder's descriptor: a test's paths are too long for a socket."""
    fd = os.open(path.parent, os.O_PATH)
    listener.bind(f"/proc/self/fd/{fd}/{path.name}")
    os.close(fd)


def test_types_of_host_paths(world: World, host: Path) -> None:
    world.finish(["right"])
    assert world.said["right"] == [
        "v0 directory", "v1 regular file", "v2 socket", "v3 character special file",
        "v4 directory", "v5 regular empty file", "v6 directory",
    ]  # fmt: skip
    texts = {
        "directory": f"{host}/file is not a directory",
        "file": f"{host}/folder is not a file",
        "socket": f"{host}/folder is not a socket file",
        "chardevice": f"{host}/folder is not a character device",
        "blockdevice": f"{host}/folder is not a block device",
    }
    for name, text in texts.items():
        wanted = f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {text}'
        assert wanted in world.events(f"wrong-{name}")


def test_sub_paths_do_not_lead_out(world: World, host: Path) -> None:
    assert "unable to provision SubPath `in/../../../etc`: must not contain '..'" in str(
        world.events("trick-up")
    )
    text = "Error: error SubPath `/etc` must not be an absolute path"
    assert text in world.events("trick-root")
    text = 'Error: failed to prepare subPath for volumeMount "v" of container "c": subpath '
    assert f'{text}"secret" not within volume path' in str(world.events("trick-file"))
    assert f'{text}"out/etc/hostname" not within' in str(world.events("trick-link"))
    assert sorted(path.name for path in (host / "volume").iterdir()) == ["in", "out", "secret"]


def test_read_only_in_depth(world: World, host: Path) -> None:
    """A mount inside a volume is read-only where that is asked for, and told of in the status."""
    world.finish(["deep"])
    assert world.said["deep"] == ["disabled inner", "plain inner"]
    status = world.user.get("pod", "deep")["status"]["containerStatuses"][0]["volumeMounts"]
    assert {item["mountPath"].rpartition("/")[2]: item["recursiveReadOnly"] for item in status} == {
        "plain": "Disabled",
        "enabled": "Enabled",
        "possible": "Enabled",
        "disabled": "Disabled",
    }


def test_mounts_spread_as_far_as_asked(world: World, host: Path) -> None:
    names = [f"pod/spread-{mode}" for mode in ("none", "hosttocontainer", "bidirectional")]
    world.user.kubectl("wait", "--for=condition=Ready", *names, "--timeout=30s").ok
    (host / "spread/start").touch()
    eventually(lambda: str((host / "spread/mounted").exists()), "True")
    made = host / "spread/made"
    mounts.mount_tmpfs(made)
    try:
        (made / "here").touch()
        # What a pod mounts other pods see, and the host does not.
        assert not (host / "spread/told/here").exists()
        (host / "spread/go").touch()
        world.finish(["spread-none", "spread-hosttocontainer"])
    finally:
        mounts.unmount(made)
    assert world.said["spread-none"].count("here") == 0
    # The host's mounts come in where the host shares them.
    shared = mounts.mount_of(host).shared
    assert world.said["spread-hosttocontainer"].count("here") == (2 if shared else 1)


# Block volumes


def loops(world: World) -> list[str]:
    """Files of the node's volumes that loop devices show."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        # Others' come and go.
        with suppress(OSError):
            found.append(path.read_text().strip())
    return [name for name in found if name.startswith(str(world.user.data))]


def test_block_volumes_are_devices(world: World) -> None:
    claim, writer, reader = scenes.devices()
    world.apply(claim, writer)
    if not Path("/dev/loop-control").exists():
        assert "MapVolume.MapBlockVolume failed" in str(world.events("block-writer"))
        return
    world.finish(["block-writer"])
    assert world.said["block-writer"] == [str(8 << 20)]
    world.apply(reader)
    world.finish(["block-reader"])
    assert world.said["block-reader"] == ["kept", "refused"]
    # What it holds is kept by a snapshot, and had again from it.
    world.user.sampan("addon", "enable", "snapshots").ok
    world.apply(*scenes.restored())
    world.finish(["restored"])
    assert world.said["restored"] == ["kept"]
    pods = [f"pod/{name}" for name in ("block-writer", "block-reader", "restored")]
    world.user.kubectl("delete", "--now", *pods).ok
    eventually(lambda: str(loops(world)), "[]")


# Volumes that others provide


def kubelet_mounts(world: World) -> list[str]:
    """What is mounted in the node's namespace below its pods and plugins."""
    status = json.loads(world.user.sampan("status", "--json").ok)
    return [
        str(point.target)
        for point in mounts.list_mounts(status["parts"]["node"]["pid"])
        if point.target.is_relative_to(world.user.data / "node/pods")
        or point.target.is_relative_to(world.user.data / "node/plugins")
    ]


def kill_node(world: World) -> None:
    """The agent dies and comes back."""
    pid = json.loads(world.user.sampan("status", "--json").ok)["parts"]["node"]["pid"]
    os.kill(pid, signal.SIGKILL)
    world.user.sampan("up").ok


def ready(world: World, *pods: str) -> None:
    names = [f"pod/{name}" for name in pods]
    waited = world.user.kubectl("wait", "--for=condition=Ready", *names, "--timeout=30s")
    assert waited.code == 0, world.user.kubectl("describe", "pods", *pods).out


@pytest.fixture(scope="module")
def disks(world: World) -> Path:
    """Where a CSI driver, which is a pod, has the volumes of another one's."""
    name = "test.sampan.dev"
    *first, user = scenes.driver(name, str(ROOT), sys.executable)
    world.apply(*first)
    node = world.user.get("nodes")["items"][0]["metadata"]["name"]
    path = "--for=jsonpath={.spec.drivers[*].name}=" + name
    world.user.kubectl("wait", f"csinode/{node}", path, "--timeout=30s").ok
    world.apply(user)
    ready(world, "csi")
    return world.user.data / "node/plugins" / name / "volumes"


def test_a_driver_in_a_pod_serves_its_volumes(world: World, disks: Path) -> None:
    """Staged, published, and given to the group."""
    assert (disks / "disk/log").read_text() == "kept\n"
    assert (disks / "disk/log").stat().st_gid == 1234
    assert len([*disks.iterdir()]) == 2


def test_pods_of_two_nodes_share_a_file_server(world: World, tmp_path: Path) -> None:
    """One writes what the other reads at once, a third may not write; the client lives through the
    agent's death and goes with the last pod."""
    world.user.sampan("up", "--nodes", "2").ok
    nodes = world.user.get("nodes")["items"]
    addresses = [item["status"]["addresses"][0]["address"] for item in nodes]
    with nfs_server(tmp_path, addresses[0]) as export:
        export.chmod(0o777)
        names = [item["metadata"]["name"] for item in nodes]
        volume, claim, *pods = scenes.sharing(addresses[0], str(export), names)
        world.apply(volume, claim)
        world.user.kubectl("wait", "pvc/nfs", "--for=jsonpath={.status.phase}=Bound").ok
        world.apply(*pods)
        ready(world, *PODS_OF_SHARE)
        where = {world.user.get("pod", name)["spec"]["nodeName"] for name in PODS_OF_SHARE}
        assert where == set(names)
        script = "echo one > /v/f && mkdir /v/d && chmod 700 /v/d && ln -s f /v/l && echo made"
        assert world.run("nfs-claim", script) == "made\n"
        assert (export / "f").read_text() == "one\n"
        assert (
            world.run("nfs-inline", "cat /v/l; stat -c %a /v/d; echo two >> /v/f") == "one\n700\n"
        )
        kill_node(world)
        eventually(lambda: world.run("nfs-claim", "cat /v/f"), "one\ntwo\n")
        said = world.run("nfs-reader", "cat /v/f; touch /v/x || echo refused")
        assert said == "one\ntwo\nrefused\n"
        world.user.kubectl("delete", "pod", *PODS_OF_SHARE, "--now", "--wait").ok
        eventually(lambda: str([item for item in kubelet_mounts(world) if "nfs" in item]), "[]")
    assert sorted(path.name for path in export.iterdir()) == ["d", "f", "l"]


def test_volumes_that_others_provide_are_taken_back(world: World, disks: Path) -> None:
    """By an agent that was killed meanwhile (in the test above); what a volume holds stays."""
    world.user.kubectl("delete", "pod", "csi", "--now", "--wait").ok
    eventually(lambda: str([item for item in kubelet_mounts(world) if "csi" in item]), "[]")
    assert [path.name for path in disks.iterdir()] == ["disk"]
    assert (disks / "disk/log").read_text() == "kept\n"


# Devices


def test_a_device_of_a_claim_is_in_the_container(world: World, tmp_path: Path) -> None:
    """DRA from the driver's socket to what CDI says of the device."""
    cdi = Path("/var/run/cdi")
    there = cdi.exists()
    cdi.mkdir(exist_ok=True)
    file = cdi / f"sampan-test-{os.getpid()}.json"
    file.write_text(json.dumps(devices.spec(str(tmp_path))))
    registry = str(world.user.data / "node/plugins_registry")
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.kit.dradriver", devices.DRIVER, str(tmp_path / "driver"),
         registry, devices.CDI],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "serving\n"
        world.apply(*devices.offered(world.user.get("nodes")["items"][0]["metadata"]["name"]))
        world.apply(devices.user())
        world.finish(["device"])
        assert world.said["device"] == ["one", "hooked", "device"]
        # The pod has ended: its device is given back, and the claim goes.
        eventually(lambda: str(world.user.get("resourceclaims")["items"]), "[]")
        driver.send_signal(signal.SIGINT)
        calls = driver.communicate(timeout=10)[0]
        assert calls.endswith("'NodePrepareResources', 'NodeUnprepareResources']\n")
    finally:
        driver.kill()
        driver.wait()
        file.unlink()
        if not there:
            cdi.rmdir()
