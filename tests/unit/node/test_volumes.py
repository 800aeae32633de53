"""Volumes on a temporary directory: content, atomic updates, subPath, removal."""

from __future__ import annotations

import base64
import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sampan.linux.libc import check, libc
from sampan.node.downward import Facts
from sampan.node.volumes.atomic import File, read, write
from sampan.node.volumes.claim import bound_volume, check_volume, volume_path
from sampan.node.volumes.empty_dir import memory_size
from sampan.node.volumes.local import LocalVolumes
from sampan.node.volumes.mounted import mount_statuses
from sampan.node.volumes.ownership import give_to_group
from sampan.node.volumes.place import PodVolumes, has_mounts
from sampan.node.volumes.projected import token_key, wanted_tokens
from sampan.node.volumes.source import Sources, Token, VolumeError
from sampan.node.volumes.subpath import bind_sub_path
from tests.kit.runtime import FakeKernel

AT_FDCWD, RENAME_EXCHANGE = -100, 2
OBJECTS: dict[tuple[str, str], Any] = {
    ("configmaps", "m"): {"data": {"a": "1", "b": "2"}, "binaryData": {"c": "/w=="}},
    ("secrets", "s"): {"data": {"p": base64.b64encode(b"secret").decode()}},
}


def sources(volumes: list[dict[str, Any]], **spec: Any) -> Sources:
    pod = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"x": "y"}},
        "spec": {"containers": [{"name": "c"}], "volumes": volumes} | spec,
    }
    tokens = {token_key(source): Token("tok", 1.0) for source in ({"path": "t"},)}
    return Sources(Facts(pod, "", "", {}), lambda kind, name: OBJECTS.get((kind, name)), tokens)


def made(tmp: Path) -> tuple[PodVolumes, FakeKernel]:
    kernel = FakeKernel()
    volumes = PodVolumes(tmp / "data", tmp / "run", kernel)
    volumes.open()
    return volumes, kernel


def shown(directory: Path) -> dict[str, str]:
    return {
        entry.name: (directory / entry.name).read_text(errors="replace")
        for entry in os.scandir(directory)
        if not entry.name.startswith("..")
    }


def test_atomic_update_replaces_all_at_once(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    assert write(volume, {"a": File(b"1"), "deep/b": File(b"2", 0o400)})
    first = os.readlink(volume / "..data")
    assert not write(volume, {"a": File(b"1"), "deep/b": File(b"2", 0o400)})
    assert os.readlink(volume / "..data") == first
    assert os.readlink(volume / "a") == "..data/a"
    assert write(volume, {"a": File(b"3")})
    assert read(volume) == {"a": (b"3", 0o644)}
    assert sorted(entry for entry in os.listdir(volume) if not entry.startswith("..2")) == [
        "..data",
        "a",
    ]
    assert not (volume / first).exists()
    # What a subPath has made in it stays, and is in nobody's way.
    (volume / "part").mkdir()
    assert write(volume, {"b": File(b"4")})
    assert shown(volume / "..data") == {"b": "4"}
    assert (volume / "part").is_dir()


def test_config_map_secret_and_projected(tmp_path: Path) -> None:
    volumes, kernel = made(tmp_path)
    token = {"serviceAccountToken": {"path": "t"}}
    paths = volumes.set_up(
        sources(
            [
                {"name": "m", "configMap": {"name": "m"}},
                {
                    "name": "i",
                    "configMap": {"name": "m", "items": [{"key": "a", "path": "x/y", "mode": 256}]},
                },
                {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
                {"name": "o", "secret": {"secretName": "no", "optional": True}},
                {
                    "name": "p",
                    "projected": {
                        "sources": [
                            token,
                            {"configMap": {"name": "m", "items": [{"key": "b", "path": "b"}]}},
                            {
                                "downwardAPI": {
                                    "items": [
                                        {"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}
                                    ]
                                }
                            },
                        ]
                    },
                },
            ]
        ),
        {},
    )
    assert shown(paths["m"]) == {"a": "1", "b": "2", "c": "\ufffd"}
    assert (paths["i"] / "x/y").stat().st_mode & 0o777 == 0o400
    assert shown(paths["s"]) == {"p": "secret"}
    assert paths["s"].is_relative_to(kernel.points[0])
    assert shown(paths["o"]) == {}
    assert shown(paths["p"]) == {"t": "tok", "b": "2", "l": 'x="y"'}


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        (
            {"configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}},
            "configmap references non-existent config key: z",
        ),
        (
            {"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}},
            "references non-existent secret key: z",
        ),
        (
            {"hostPath": {"path": "/proc/version", "type": "Directory"}},
            "hostPath type check failed: /proc/version is not a directory",
        ),
        (
            {"hostPath": {"path": "/proc/none/x", "type": "FileOrCreate"}},
            "open /proc/none/x: no such file or directory",
        ),
        (
            {"hostPath": {"path": "/proc/version/x", "type": "DirectoryOrCreate"}},
            "mkdir /proc/version/x: not a directory",
        ),
        (
            {"hostPath": {"path": "/proc/version", "type": "Socket"}},
            "hostPath type check failed: /proc/version is not a socket file",
        ),
        ({"nfs": {}}, "no volume plugin matched: nfs is not supported on this node"),
    ],
)
def test_what_is_missing(tmp_path: Path, volume: dict[str, Any], text: str) -> None:
    volumes, _ = made(tmp_path)
    with pytest.raises(VolumeError) as caught:
        volumes.set_up(sources([{"name": "v"} | volume]), {})
    assert str(caught.value) == f'MountVolume.SetUp failed for volume "v" : {text}'


async def test_empty_dirs_and_their_removal(tmp_path: Path) -> None:
    volumes, kernel = made(tmp_path)
    inputs = sources(
        [
            {"name": "d", "emptyDir": {}},
            {"name": "r", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "h", "hostPath": {"path": str(tmp_path / "h"), "type": "DirectoryOrCreate"}},
        ]
    )
    paths = volumes.set_up(inputs, {})
    assert paths["d"].stat().st_mode & 0o7777 == 0o777
    assert kernel.points[1:] == [paths["r"]]
    assert volumes.set_up(inputs, {}) == paths
    assert kernel.points[1:] == [paths["r"]]
    (paths["d"] / "file").write_text("x")
    (paths["h"] / "kept").write_text("x")
    await volumes.remove("u")
    assert kernel.points[1:] == []
    assert not paths["d"].exists()
    assert (tmp_path / "h" / "kept").exists()
    assert volumes.known() == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_fs_group_owns_what_the_pod_may_write(tmp_path: Path) -> None:
    volumes, _ = made(tmp_path)
    inputs = sources(
        [{"name": "d", "emptyDir": {}}, {"name": "m", "configMap": {"name": "m"}}],
        securityContext={"fsGroup": 4321},
    )
    paths = volumes.set_up(inputs, {})
    assert paths["d"].stat().st_gid == 4321
    assert paths["d"].stat().st_mode & 0o7777 == 0o2777
    assert (paths["m"] / "a").stat().st_gid == 4321
    assert not write(paths["m"], {"a": File(b"1"), "b": File(b"2"), "c": File(b"\xff")}, 4321)


def test_sub_path_stays_inside(tmp_path: Path) -> None:
    kernel = FakeKernel()
    volume, outside = tmp_path / "v", tmp_path / "out"
    volume.mkdir()
    outside.mkdir()
    (volume / "file").write_text("x")
    (volume / "link").symlink_to(outside)
    (volume / "up").symlink_to("../out")
    bind_sub_path(volume, "file", tmp_path / "t1", kernel)
    assert kernel.binds[tmp_path / "t1"] == str(volume / "file")
    bind_sub_path(volume, "new/deep", tmp_path / "t2", kernel)
    assert (volume / "new/deep").is_dir()
    (volume / "inside").symlink_to("new/../file")
    bind_sub_path(volume, "inside", tmp_path / "t4", kernel)
    assert kernel.binds[tmp_path / "t4"] == str(volume / "file")
    # A link that leads out is an error, whether there is something or not (TestBindSubPath).
    (volume / "nothing").symlink_to("/nothing")
    for path in ("link", "up", "link/new", "nothing", "nothing/new"):
        with pytest.raises(OSError, match=f'subpath "{path}" not within volume path "{volume}"'):
            bind_sub_path(volume, path, tmp_path / "t3", kernel)
    assert os.listdir(outside) == []


def test_tokens_that_are_wanted() -> None:
    pod = sources(
        [{"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]
    ).facts.pod
    assert wanted_tokens(pod) == {("", 3600)}


async def test_an_empty_dir_keeps_the_mode_its_pod_gave_it(tmp_path: Path) -> None:
    volumes, _ = made(tmp_path)
    inputs = sources([{"name": "d", "emptyDir": {}}])
    path = volumes.set_up(inputs, {})["d"]
    path.chmod(0o700)
    assert volumes.set_up(inputs, {})["d"].stat().st_mode & 0o7777 == 0o700


def test_memory_of_an_empty_dir_is_the_least_of_its_limits() -> None:
    limited = {"resources": {"limits": {"memory": "1Mi"}}}

    def facts(*containers: dict[str, Any], **allocatable: str) -> Facts:
        return Facts({"spec": {"containers": [*containers]}}, "", "", allocatable)

    both = facts(limited, limited, memory="1Gi")
    assert memory_size({"sizeLimit": "1Gi"}, both) == 2 << 20
    assert memory_size({"sizeLimit": "1Ki"}, both) == 1 << 10
    assert memory_size({}, facts(limited, {})) == 0
    # Pods cannot use more than what the node has for them.
    assert memory_size({}, facts(limited, {}, memory="3Ki")) == 3 << 10
    assert memory_size({"sizeLimit": "1Gi"}, facts({}, memory="3Ki")) == 3 << 10


def test_sub_paths_are_made_with_the_volumes_mode(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    volume.mkdir()
    volume.chmod(0o2777)
    bind_sub_path(volume, "a/b", tmp_path / "t", FakeKernel())
    assert (volume / "a/b").stat().st_mode & 0o777 == 0o777


def test_mounts_of_the_pods_own_are_looked_for() -> None:
    mount = {"name": "v", "mountPath": "/v"}
    pod: dict[str, Any] = {"spec": {"containers": [{"volumeMounts": [mount]}]}}
    assert not has_mounts(pod)
    mount["mountPropagation"] = "Bidirectional"
    assert has_mounts(pod)


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_a_group_is_given_what_is_there_and_nothing_outside(tmp_path: Path) -> None:
    volume, outside = tmp_path / "v", tmp_path / "out"
    (volume / "deep").mkdir(parents=True)
    (volume / "deep/file").write_text("x")
    (volume / "deep/file").chmod(0o4600)
    outside.mkdir(mode=0o700)
    (outside / "secret").touch(mode=0o600)
    (volume / "link").symlink_to(outside)
    (volume / "deep/link").symlink_to(outside / "secret")
    assert give_to_group(volume, 4321, "OnRootMismatch")
    assert (volume / "deep").stat().st_mode & 0o7777 == 0o2775
    file = (volume / "deep/file").stat()
    assert (file.st_gid, file.st_mode & 0o7777) == (4321, 0o4660)
    assert outside.stat().st_mode & 0o7777 == 0o700
    assert {path.stat().st_gid for path in (outside, outside / "secret")} == {os.getgid()}
    assert (volume / "link").lstat().st_gid == 4321
    # What is right at the root is believed, when the pod says so, and only then.
    (volume / "new").touch()
    os.chown(volume / "new", -1, 0)
    assert not give_to_group(volume, 4321, "OnRootMismatch")
    assert (volume / "new").stat().st_gid == 0
    assert give_to_group(volume, 4321, "Always")
    assert (volume / "new").stat().st_gid == 4321


def test_a_claim_is_used_by_who_may() -> None:
    pod = {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}}
    meta: dict[str, Any] = {"name": "c", "namespace": "ns", "uid": "cu"}
    claim: dict[str, Any] = {"metadata": meta, "spec": {"volumeName": "v"}, "status": {}}
    with pytest.raises(VolumeError, match="PVC ns/c: PVC is not bound"):
        bound_volume(claim, pod, own=False)
    claim["status"]["phase"] = "Bound"
    assert bound_volume(claim, pod, own=False) == "v"
    with pytest.raises(VolumeError, match=r"PVC ns/c was not created for pod ns/p \(pod is not"):
        bound_volume(claim, pod, own=True)
    meta["ownerReferences"] = [{"uid": "u", "controller": True}]
    assert bound_volume(claim, pod, own=True) == "v"
    meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(VolumeError, match="PVC is being deleted"):
        bound_volume(claim, pod, own=True)
    check_volume({"metadata": {"name": "v"}, "spec": {"claimRef": {"uid": "cu"}}}, claim)
    with pytest.raises(VolumeError, match='PV "v" is bound to a different claim than "ns/c"'):
        check_volume({"metadata": {"name": "v"}, "spec": {"claimRef": {"uid": "x"}}}, claim)


def test_what_fails_before_a_volume_is_set_up(tmp_path: Path) -> None:
    volume = {"metadata": {"name": "v"}, "spec": {"local": {"path": str(tmp_path / "none")}}}
    with pytest.raises(VolumeError, match=f'path "{tmp_path}/none" does not exist') as caught:
        volume_path(volume)
    assert caught.value.step == "MountVolume.NewMounter initialization"


async def test_local_volumes_are_named_by_uids_alone(tmp_path: Path) -> None:
    kernel = FakeKernel()
    local = LocalVolumes(tmp_path, kernel)
    name = "pvc-62bb990e-6e3e-4d0c-a80c-56bde485be73"
    for wrong in ("..", "pvc-..", f"{name}/..", f"../{name}", f"{name}\n", "pvc-x"):
        with pytest.raises(ValueError, match="no name of a local volume"):
            await local.make(wrong)
        with pytest.raises(ValueError, match="no name of a local volume"):
            await local.remove(wrong)
    path = await local.make(name)
    assert path == tmp_path / "storage" / name
    assert path.stat().st_mode & 0o777 == 0o777
    outside = tmp_path / "out"
    outside.mkdir()
    (outside / "kept").touch()
    (path / "link").symlink_to(outside)
    kernel.points.append(path / "mounted")
    await local.make(name)
    assert await local.remove(name) == await local.remove(name) == path
    assert not path.exists()
    assert kernel.points == []
    assert (outside / "kept").exists()


async def test_a_local_volume_may_begin_as_a_copy(tmp_path: Path) -> None:
    local = LocalVolumes(tmp_path, FakeKernel())
    first, second = (f"pvc-{digit}2bb990e-6e3e-4d0c-a80c-56bde485be73" for digit in "67")
    source = await local.make(first, 1 << 20)
    outside = tmp_path / "outside"
    outside.write_text("of the host")
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/file").write_text("content")
    (source / "deep/file").chmod(0o640)
    os.chown(source / "deep/file", 1000, 1001)
    os.utime(source / "deep", ns=(10**18, 10**18))
    os.link(source / "deep/file", source / "same")
    (source / "link").symlink_to(outside)
    (source / "folder").symlink_to(tmp_path)
    with (source / "holes").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    # What an agent that died had half made does not stay.
    (tmp_path / f"storage/.{second}/old").mkdir(parents=True)
    copy = await local.make(second, 1 << 20, first)
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*")) == [
        "deep", "deep/er", "deep/file", "folder", "holes", "link", "same",
    ]  # fmt: skip
    found = (copy / "deep/file").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1000, 1001, 0o640)
    assert found.st_ino == (copy / "same").stat().st_ino != (source / "same").stat().st_ino
    assert (copy / "deep").stat().st_mtime_ns == 10**18
    assert os.readlink(copy / "link") == str(outside)
    assert (copy / "folder").is_symlink()
    assert (copy / "holes").read_bytes() == bytes(1 << 20) + b"end"
    assert (copy / "holes").stat().st_blocks < 1 << 10
    assert copy.stat().st_mode & 0o777 == 0o777
    # Made once, it is its own.
    (source / "later").touch()
    assert await local.make(second, 1 << 20, first) == copy
    assert not (copy / "later").exists()
    with pytest.raises(ValueError, match="no name of a local volume"):
        await local.make(second, 0, "../outside")


async def test_images_are_mounted_once_and_unmounted_before_anything_is_removed(
    tmp_path: Path,
) -> None:
    volumes, kernel = made(tmp_path)
    inputs = sources([{"name": "i", "image": {"reference": "busybox"}}])
    assert not volumes.has_image("u", "i")
    volumes.mount_image("u", "i", [tmp_path / "layer"])
    path = volumes.set_up(inputs, {})["i"]
    assert volumes.has_image("u", "i")
    assert kernel.points[1:] == [path]
    assert has_mounts(inputs.facts.pod)
    await volumes.remove("u", mounts=has_mounts(inputs.facts.pod))
    assert kernel.points[1:] == []


def test_what_a_status_says_of_mounts() -> None:
    mounts = [
        {"name": "v", "mountPath": "/v"},
        {"name": "r", "mountPath": "/r", "readOnly": True},
        {"name": "d", "mountPath": "/d", "readOnly": True, "recursiveReadOnly": "IfPossible"},
    ]
    assert mount_statuses({"volumeMounts": mounts}) == [
        {"name": "v", "mountPath": "/v"},
        {"name": "r", "mountPath": "/r", "readOnly": True, "recursiveReadOnly": "Disabled"},
        {"name": "d", "mountPath": "/d", "readOnly": True, "recursiveReadOnly": "Enabled"},
    ]


def swap(volume: Path, outside: Path, ended: threading.Event) -> None:
    """A folder and a link to the outside change places, over and over."""
    (volume / "link").symlink_to(outside)
    names = [os.fsencode(volume / name) for name in ("part", "link")]
    while not ended.is_set():
        check(libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE))


class Watchful(FakeKernel):
    """Remembers what is bound, without following its path once more."""

    def bind(self, source: Path, target: Path) -> None:
        self.binds[target] = os.readlink(source)


def test_a_folder_that_turns_into_a_link_leads_nowhere(tmp_path: Path) -> None:
    volume, outside, target = tmp_path / "volume", tmp_path / "outside", tmp_path / "target"
    for folder in (volume / "part/deep", outside / "deep"):
        folder.mkdir(parents=True)
    kernel, naive, ended = Watchful(), set[str](), threading.Event()
    swapper = threading.Thread(target=swap, args=(volume, outside, ended))
    swapper.start()
    seen: set[str] = set()
    try:
        end = time.monotonic() + 10
        # As long as it takes the naive way to be led out: then ours was exposed to the same.
        while len(seen) < 1 or str(outside / "deep") not in naive:
            assert time.monotonic() < end
            with suppress(OSError):
                bind_sub_path(volume, "part/deep", target, kernel)
                seen.add(kernel.binds[target])
            with suppress(OSError):
                naive.add(os.path.realpath(volume / "part/deep", strict=True))
    finally:
        ended.set()
        swapper.join()
    assert all(path.startswith(f"{volume}/") for path in seen)


def test_huge_pages_are_of_a_size_that_is_asked_for(tmp_path: Path) -> None:
    def asking(*names: str) -> dict[str, Any]:
        return {"containers": [{"name": "c", "resources": {"requests": dict.fromkeys(names, 1)}}]}

    def made_of(medium: str, *names: str) -> int:
        volumes, kernel = made(tmp_path / medium / "".join(names))
        wanted = [{"name": "v", "emptyDir": {"medium": medium}}]
        path = volumes.set_up(sources(wanted, **asking(*names)), {})["v"]
        assert path in kernel.points
        return kernel.pages[path]

    small, large = "hugepages-2Mi", "hugepages-1Gi"
    assert made_of("HugePages", small) == 2 << 20
    assert made_of("HugePages-1Gi", small, large) == 1 << 30
    with pytest.raises(VolumeError, match="multiple huge page sizes"):
        made_of("HugePages", small, large)
    with pytest.raises(VolumeError, match="there is no resource request for huge pages"):
        made_of("HugePages-1Gi", small)


class Killed(BaseException):
    """What ends the agent between two steps."""


STEPS = {
    "a directory was made": (Path, "mkdir"),
    "a file was written": (Path, "write_bytes"),
    "a link was made": (Path, "symlink_to"),
    "the new link was renamed": (Path, "rename"),
    "the old files are removed": (shutil, "rmtree"),
}


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_write_that_was_killed_is_ended_by_the_next(
    step: str, before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever had been done, the next write of the same files shows them, and nothing else."""
    old = {"gone": File(b"1"), "both": File(b"1")}
    new = {"both": File(b"2"), "came": File(b"2"), "deep/er": File(b"2")}
    shown = {"both": b"2", "came": b"2", "deep/er": b"2"}
    for count in range(1, 9):
        place = tmp_path / str(count)
        write(place, old)
        (holder, name), left = STEPS[step], [count]
        real = getattr(holder, name)

        def act(*given: Any, real: Any = real, left: list[int] = left, **named: Any) -> Any:
            left[0] -= 1
            if not left[0] and before:
                raise Killed
            done = real(*given, **named)
            if not left[0]:
                raise Killed
            return done

        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(holder, name, act)
            write(place, new)
        write(place, new)
        names = {path for path in place.iterdir() if not path.name.startswith("..")}
        assert {path.name for path in names} == {"both", "came", "deep"}
        assert {name: (place / name).read_bytes() for name in shown} == shown
        assert len([path for path in place.iterdir() if path.name.startswith("..2")]) == 1
        if left[0] > 0:
            return


def test_a_name_that_became_a_directory_stays_one(tmp_path: Path) -> None:
    """A subPath of an optional key that was not there: the other keys go on being updated."""
    write(tmp_path, {"a": File(b"1")})
    (tmp_path / "late").mkdir()
    assert write(tmp_path, {"a": File(b"2"), "late": File(b"2")})
    assert (tmp_path / "a").read_bytes() == b"2"
    assert (tmp_path / "late").is_dir()
