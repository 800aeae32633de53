"""Block volumes: which device a pod gets, and when a loop device is let go of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sampan.node.volumes.claim import check_use
from sampan.node.volumes.devices import FOLDER, Devices
from sampan.node.volumes.formatting import format_and_mount
from sampan.node.volumes.local import LocalVolumes
from sampan.node.volumes.source import MapError, VolumeError
from sampan.runtime.bundle import Surroundings, build_config
from sampan.runtime.interface import ContainerSpec, Device, RuntimeFailure, Security
from sampan.runtime.verbs.create import surroundings
from tests.kit.runtime import FakeKernel

NAME = "pvc-62bb990e-6e3e-4d0c-a80c-56bde485be73"
SNAPSHOT = "snapshot-72bb990e-6e3e-4d0c-a80c-56bde485be73"


def volume(path: Path, mode: str = "Block") -> dict[str, Any]:
    spec = {"local": {"path": str(path)}, "volumeMode": mode}
    return {"metadata": {"name": "disk"}, "spec": spec}


def test_a_loop_device_lives_as_long_as_its_users(tmp_path: Path) -> None:
    kernel, file = FakeKernel(), tmp_path / "file"
    file.touch()
    devices = Devices(tmp_path, kernel)
    assert devices.map("a", volume(file)) == devices.map("b", volume(file)) == Path("/dev/loop0")
    assert devices.users() == {"a", "b"}
    devices.release("a")
    devices.release("unknown")
    assert kernel.loops == [file]
    # Another agent, and the file has gone meanwhile.
    file.unlink()
    Devices(tmp_path, kernel).release_all()
    assert kernel.loops == []
    assert not [*(tmp_path / FOLDER).iterdir()]


def test_what_a_device_holds_is_mounted_once(tmp_path: Path) -> None:
    kernel, disk = FakeKernel(), volume(tmp_path / "disk", "Filesystem")
    disk["spec"] |= {"mountOptions": ["noatime"], "accessModes": ["ReadOnlyMany"]}
    disk["spec"]["local"]["fsType"] = "xfs"
    devices = Devices(tmp_path, kernel)
    target = devices.mount("a", disk)
    assert target == tmp_path / "plugins/kubernetes.io/local-volume/mounts/disk"
    assert devices.mount("b", disk) == target
    assert kernel.devices == [(tmp_path / "disk", "xfs", ("noatime", "ro"))]
    devices.release("a")
    assert kernel.points == [target]
    Devices(tmp_path, kernel).release("b")
    assert kernel.points == []
    assert not target.exists()


def test_a_device_is_formatted_where_it_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TestSafeFormatAndMount of k8s.io/mount-utils, as far as it goes here."""
    tools, said = tmp_path / "bin", tmp_path / "said"
    tools.mkdir()
    answers = {"blkid": "exit 2", "mkfs.ext4": "exit 0", "mount": "exit 0"}

    def answer(**changed: str) -> list[str]:
        for name, script in (answers | changed).items():
            (tools / name).write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >> {said}\n{script}\n')
            (tools / name).chmod(0o755)
        said.unlink(missing_ok=True)
        try:
            format_and_mount(Path("/dev/x"), Path("/mnt"), "", ["noatime"])
        finally:
            found = said.read_text().splitlines()
        return found[1:]

    monkeypatch.setenv("PATH", f"{tools}:/bin:/usr/bin")
    mounted = "mount -t ext4 -o noatime /dev/x /mnt"
    assert answer() == ["mkfs.ext4 -F -m0 /dev/x", mounted]
    assert answer(blkid="echo TYPE=ext4") == [mounted]
    with pytest.raises(VolumeError, match=r'as "ext4", it already contains xfs\. Mount error'):
        answer(blkid="echo TYPE=xfs", mount="exit 32")
    with pytest.raises(VolumeError, match="contains unknown data, probably partitions"):
        answer(blkid="echo PTTYPE=dos", mount="exit 32")
    with pytest.raises(VolumeError, match="blkid failed"):
        answer(blkid="echo broken; exit 4")
    with pytest.raises(VolumeError, match=r"mkfs\.ext4 failed: exit status 1"):
        answer(**{"mkfs.ext4": "exit 1"})


def test_what_is_no_device(tmp_path: Path) -> None:
    devices = Devices(tmp_path, FakeKernel())
    with pytest.raises(MapError, match="is no block device and no file") as caught:
        devices.map("a", volume(tmp_path))
    assert (caught.value.step, caught.value.reason) == (
        "MapVolume.MapBlockVolume",
        "FailedMapVolume",
    )
    with pytest.raises(MapError, match="No such file or directory"):
        devices.map("a", volume(tmp_path / "none"))
    host = {"metadata": {"name": "disk"}, "spec": {"hostPath": {"path": "/dev/null"}}}
    with pytest.raises(MapError, match="failed to find BlockVolumeMapper plugin"):
        devices.map("a", host)


@pytest.mark.parametrize(
    ("mode", "field"), [("Block", "volumeMounts"), ("Filesystem", "volumeDevices")]
)
def test_volumes_are_used_as_what_they_are(tmp_path: Path, mode: str, field: str) -> None:
    pod = {"spec": {"containers": [{"name": "c", field: [{"name": "v"}]}]}}
    check_use(pod, "other", volume(tmp_path, mode))
    with pytest.raises(VolumeError) as caught:
        check_use(pod, "v", volume(tmp_path, mode))
    assert str(caught.value) == f"volume v has volumeMode {mode}, but is specified in {field}"


async def test_a_block_volume_is_a_file_of_its_size(tmp_path: Path) -> None:
    kernel = FakeKernel()
    local = LocalVolumes(tmp_path, kernel)
    path = await local.make(NAME, 1 << 20, block=True)
    assert path.stat().st_size == 1 << 20
    kernel.attach_loop(path)
    assert await local.make(NAME, 2 << 20, block=True) == path
    assert await local.make(NAME, 1 << 20, block=True) == path
    assert path.stat().st_size == 2 << 20
    path.write_bytes(b"data" + bytes(4092))
    kept = await local.make(SNAPSHOT, source=NAME)
    assert kept.read_bytes().startswith(b"data")
    again = await local.make(NAME.replace("6", "5"), 1 << 20, source=SNAPSHOT, block=True)
    assert again.stat().st_size == 1 << 20
    assert again.read_bytes().startswith(b"data")
    await local.remove(NAME)
    assert not path.exists()
    assert kernel.loops == []


def test_a_container_may_do_with_its_device_what_is_said() -> None:
    node = {"path": "/dev/x", "type": "b", "major": 7, "minor": 3}
    around = Surroundings(rootfs="/r", cgroup="/c", devices=[node])
    given = [Device("/dev/x", "/dev/loop3", "r")]

    def linux(security: Security) -> dict[str, Any]:
        spec = ContainerSpec(id="c", image="i", args=[], env=[], devices=given, security=security)
        found: dict[str, Any] = build_config(spec, around)["linux"]
        return found

    plain = linux(Security())
    assert plain["devices"] == [node]
    assert plain["resources"]["devices"] == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "b", "major": 7, "minor": 3, "access": "r"},
    ]
    assert linux(Security(privileged=True))["resources"]["devices"] == [
        {"allow": True, "access": "rwm"}
    ]


def test_a_privileged_container_gets_its_device_once(tmp_path: Path) -> None:
    """Under a path that the host has, too, it is the one that was asked for."""
    given = ContainerSpec(
        id="c", image="i", args=[], env=[], devices=[Device("/dev/null", "/dev/zero")],
        security=Security(privileged=True),
    )  # fmt: skip
    found = [item for item in surroundings(given, tmp_path, "c").devices
             if item["path"] == "/dev/null"]  # fmt: skip
    assert [(item["major"], item["minor"]) for item in found] == [(1, 5)]
    plain = ContainerSpec(id="c", image="i", args=[], env=[],
                          devices=[Device("/dev/x", str(tmp_path))])  # fmt: skip
    with pytest.raises(RuntimeFailure, match="is not a device node"):
        surroundings(plain, tmp_path, "c")
