"""TRUST row 11, the node's part: attacks on nodes that others have suffered, refused; and each
shown to work again when the guard against it is taken away. Nothing outside the test's own folder
is ever what they reach for."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from yarl import URL

from sampan.api.errors import Object
from sampan.node import confinement, ephemeral, logs, manifests, sysctls, translate, visitors
from sampan.node.environment import ConfigError
from sampan.node.ephemeral import Written, excess
from sampan.node.volumes import atomic, local, ownership, subpath
from sampan.node.volumes.source import VolumeError
from sampan.runtime import archive, bundle, layers, manifest, reference, roots, users
from sampan.runtime.inflate import Inflated
from sampan.runtime.interface import ContainerSpec, ImageDamaged, RuntimeFailure
from sampan.runtime.mirrors import endpoints
from sampan.runtime.upstream import Server
from tests.kit.runtime import FakeKernel

pytestmark = [pytest.mark.trust, pytest.mark.root]

Patch = pytest.MonkeyPatch
REFUSALS = (
    OSError, ValueError, ImageDamaged, RuntimeFailure, VolumeError, ConfigError,
    manifests.Unusable,
)  # fmt: skip


def follow(root: int | Path, path: str, flags: int, mode: int = 0) -> int:
    """What the guard of openat2 replaces: links lead wherever they say."""
    base = f"/proc/self/fd/{root}" if isinstance(root, int) else str(root)
    return os.open(os.path.join(base, path), flags | os.O_CLOEXEC, mode)


def reached(outside: Path) -> bool:
    """Whether somebody was in the folder, or has its file by another name."""
    file = outside / "file"
    return sorted(os.listdir(outside)) != ["file"] or (
        file.read_text() != "untouched" or file.stat().st_nlink != 1
    )


# Volumes


def bound(place: Path, sub_path: str, kernel: FakeKernel | None = None) -> bool:
    """Whether a part of the volume is a part of what is outside."""
    kernel = kernel or FakeKernel()
    subpath.bind_sub_path(place / "inside", sub_path, place / "target", kernel)
    (source,) = kernel.binds.values()
    return Path(source).is_relative_to(place / "outside")


def sub_path_through_a_link(place: Path) -> bool:
    """CVE-2017-1002101."""
    (place / "inside/link").symlink_to(place / "outside")
    return bound(place, "link/file")


def sub_path_of_dots(place: Path) -> bool:
    """CVE-2017-1002101, without a link."""
    return bound(place, "../outside")


def sub_path_made_behind_a_link(place: Path) -> bool:
    """CVE-2021-25741's other half: what is missing is made, somewhere else."""
    (place / "inside/link").symlink_to("../outside")
    bound(place, "link/made")
    return reached(place / "outside")


class Swapping(FakeKernel):
    """The pod puts a link in the place of the directory between the look and the mount."""

    def bind(self, source: Path, target: Path) -> None:
        folder = target.parent / "inside/part"
        folder.rename(folder.with_name("before"))
        folder.symlink_to(target.parent / "outside")
        super().bind(source, target)


def sub_path_swapped(place: Path) -> bool:
    """CVE-2021-25741: the race."""
    (place / "inside/part").mkdir()
    return bound(place, "part", Swapping())


def content_written_elsewhere(place: Path) -> bool:
    """A path of a key that leads out of the volume."""
    with suppress(FileExistsError):
        # It is written by the time that it cannot be shown.
        atomic.write(place / "inside", {"../../outside/made": atomic.File(b"x")})
    return reached(place / "outside")


def content_removed_elsewhere(place: Path) -> bool:
    """CVE-2017-1002102: the pod says where the old content is, and the node removes it."""
    for name in ("..data", "..2026_01_01_00_00_00.0123456789"):
        (place / "inside" / name).symlink_to("../outside")
    atomic.write(place / "inside", {"a": atomic.File(b"x")})
    return not (place / "outside").exists()


POD: Object = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u"},
    "spec": {"volumes": [{"name": "v", "configMap": {"name": "m"}}], "containers": [{"name": "c"}]},
}


def content_is_written_to(place: Path) -> bool:
    """CVE-2017-1002102's ground: what the node filled may be written to by the pod."""
    mount = {"name": "v", "mountPath": "/v", "readOnly": False}
    where = translate.Place(
        id="i", restart_count=0, log_path=place / "l", termination_file=place / "t",
        network_namespace="", etc_files={}, volumes={("v", ""): place / "inside"},
    )  # fmt: skip
    closed = translate.read_only_volumes(POD["spec"])
    found = translate._mounts({"volumeMounts": [mount]}, {}, where, closed)
    return next("rw" in each.options for each in found if each.target == "/v")


def a_group_for_the_outside(place: Path) -> bool:
    """fsGroup follows a link of the pod's."""
    (place / "inside/link").symlink_to(place / "outside/file")
    ownership.give_to_group(place / "inside", 4242)
    return (place / "outside/file").stat().st_gid == 4242


def a_volume_of_another_name(place: Path) -> bool:
    """What is asked to be removed is not below the folder of volumes."""
    (place / "inside/storage").mkdir()
    return local.LocalVolumes(place / "inside", FakeKernel()).path("../../outside").is_dir()


# Images


def layer(place: Path, *members: tuple[bytes, str, str]) -> bool:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for kind, name, value in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "" if kind == tarfile.REGTYPE else value
            info.size = len(value) if kind == tarfile.REGTYPE else 0
            out.addfile(info, io.BytesIO(value.encode()))
    data = buffer.getvalue()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    layers.unpack(io.BytesIO(data), place / "inside", diff_id=digest)
    return reached(place / "outside")


FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def layer_of_dots(place: Path) -> bool:
    """CVE-2014-9357's kin."""
    return layer(place, (FILE, "../outside/made", "x"))


def layer_below_a_link(place: Path) -> bool:
    """CVE-2019-14271's kin: a link, and then a file below it."""
    return layer(place, (LINK, "link", "../outside"), (FILE, "link/file", "changed"))


def layer_with_a_hard_link_out(place: Path) -> bool:
    """CVE-2021-32760's kin: the node's file by another name, to be changed by it."""
    return layer(place, (LINK, "link", "../outside"), (HARD, "mine", "link/file"))


def layer_whose_whiteout_is_elsewhere(place: Path) -> bool:
    return layer(place, (LINK, "link", "../outside"), (FILE, "link/.wh.made", ""))


def layer_that_lies(place: Path) -> bool:
    """Content of another digest."""
    with tarfile.open(place / "lie.tar", "w") as out:
        out.addfile(tarfile.TarInfo("made"))
    with open(place / "lie.tar", "rb") as file:
        layers.unpack(file, place / "inside", diff_id="sha256:" + "0" * 64)
    return (place / "inside/made").exists()


def layer_bomb(place: Path) -> bool:
    """Sixteen megabytes in as many kilobytes."""
    with tarfile.open(place / "bomb.tar", "w") as out:
        info = tarfile.TarInfo("zeros")
        info.size = 16 << 20
        out.addfile(info, io.BytesIO(bytes(info.size)))
    data = (place / "bomb.tar").read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    layers.unpack(io.BytesIO(gzip.compress(data)), place / "inside", diff_id=digest)
    return True


def archive_that_names_the_nodes_files(place: Path) -> bool:
    """CVE-2014-9356: `../outside/file` is the image's configuration."""
    with archive.open_archive(place / "inside", place) as contents:
        return contents.read("../outside/file", 100) == b"untouched"


def two_images_in_one_document(place: Path) -> bool:
    """CVE-2021-41190: an index for who signs it, a manifest for who runs it."""
    blob = {"digest": "sha256:" + "a" * 64, "size": 7}
    both = {"schemaVersion": 2, "manifests": [blob], "layers": [blob], "config": blob}
    document = manifest.parse_document(orjson.dumps(both))
    return "manifests" in document and bool(manifest.parse_manifest(document))


def a_blob_by_a_path(place: Path) -> bool:
    return reference.is_digest("sha256:../../outside/file")


def a_user_of_the_nodes(place: Path) -> bool:
    """CVE-2024-5154: the image's /etc/passwd is the node's."""
    (place / "inside/etc").mkdir()
    (place / "inside/etc/passwd").symlink_to(place / "outside/file")
    (place / "outside/file").write_text("root:x:4242:0::/:/bin/sh\n")
    return users.resolve_user(place / "inside", "root").uid == 4242


def a_working_directory_in_proc(place: Path) -> bool:
    """CVE-2024-21626: what the runtime has open, by its number."""
    roots.prepare_working_directory(place / "inside", "/proc/self/fd/7", ())
    return True


def a_password_for_another_host(place: Path) -> bool:
    """CVE-2020-15157: a token server of the attacker's."""
    name = reference.parse("localhost:5000/a")
    (endpoint,) = endpoints(name.domain, ())
    return Server(cast(Any, None), name, None, endpoint)._may_know(URL("https://elsewhere/t"))


# Containers


def an_annotation_that_commands_the_runtime(place: Path) -> bool:
    """crun obeys annotations: hooks, seccomp, handlers."""
    notes = {"run.oci.hooks.stdout": "/tmp/x"}
    spec = ContainerSpec("i", "image", ["a"], [], annotations=notes)
    made = bundle.build_config(spec, bundle.Surroundings("/r", "/c"))
    return "run.oci.hooks.stdout" in made["annotations"]


def root_after_all(place: Path) -> bool:
    """CVE-2019-11245: runAsNonRoot, and an image of root's."""
    pod = POD | {"spec": POD["spec"] | {"securityContext": {"runAsNonRoot": True}}}
    return confinement.confine(pod, {"name": "c"}, "", place).uid == 0


def a_parameter_of_the_machine(place: Path) -> bool:
    """CVE-2022-0811's aim."""
    asked = {"sysctls": [{"name": "kernel.core_pattern", "value": "|/x"}]}
    return not sysctls.refusal({"securityContext": asked})


def a_disk_filled_by_etc_hosts(place: Path) -> bool:
    """CVE-2020-8557: what is written to /etc/hosts counts for nothing."""
    (place / "inside/hosts").write_bytes(bytes(1 << 20))
    limits = {"resources": {"limits": {"ephemeral-storage": "64Ki"}}}
    pod = {"spec": {"containers": [{"name": "c", **limits}]}}
    return excess(pod, Written(own=(place / "inside",))) is None


def a_log_that_is_a_link(place: Path) -> bool:
    """The node reads its own files to who may read the pod's log."""
    (place / "inside/c").symlink_to(place / "outside")
    fd = logs.open_log(place / "inside/c/file")
    text = os.read(fd, 100)
    os.close(fd)
    return text == b"untouched"


def a_static_pod_named_like_a_path(place: Path) -> bool:
    text = "{apiVersion: v1, kind: Pod, metadata: {name: p, uid: ../../outside},"
    text += " spec: {containers: [{name: c, image: i}]}}"
    made = manifests.static_pod(text.encode(), "f", "n1", "")
    return bool(made["metadata"]["uid"] == "../../outside")


def a_command_by_a_right_to_read(place: Path) -> bool:
    """A WebSocket begins with GET: whoever may read `nodes/proxy` runs commands in every pod."""
    return visitors.question("GET", "/exec/ns/p/c")[0] == "get"


def without(module: Any, name: str, value: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(module, name, value)


def unlinked(patch: Patch) -> None:
    patch.setattr(os, "O_NOFOLLOW", 0)
    patch.setattr(stat, "S_ISLNK", lambda mode: False)


def unclean(patch: Patch) -> None:
    patch.setattr(layers, "_clean", lambda name: name)
    patch.setattr(layers, "open_beneath", follow)


def following(patch: Patch) -> None:
    remove = shutil.rmtree
    patch.setattr(shutil, "rmtree", lambda path, **more: remove(os.path.realpath(path), **more))


def believing(patch: Patch) -> None:
    told = property(lambda stream: "sha256:" + "0" * 64)
    patch.setattr(Inflated, "digest", told)


FOLLOWED = without(subpath, "open_within", follow)
BENEATH = without(layers, "open_beneath", follow)
ATTACKS: dict[Callable[[Path], bool], Callable[[Patch], None]] = {
    sub_path_through_a_link: FOLLOWED,
    sub_path_of_dots: FOLLOWED,
    sub_path_made_behind_a_link: FOLLOWED,
    sub_path_swapped: without(subpath, "Path", lambda text: Path(os.readlink(text))),
    content_written_elsewhere: without(atomic, "_check", lambda path: None),
    content_removed_elsewhere: following,
    content_is_written_to: without(translate, "FILLED", frozenset()),
    a_group_for_the_outside: unlinked,
    a_volume_of_another_name: without(local, "NAME", re.compile(".*")),
    layer_of_dots: unclean,
    layer_below_a_link: BENEATH,
    layer_with_a_hard_link_out: BENEATH,
    layer_whose_whiteout_is_elsewhere: BENEATH,
    layer_that_lies: believing,
    layer_bomb: lambda patch: None,
    archive_that_names_the_nodes_files: without(archive, "open_beneath", follow),
    two_images_in_one_document: without(manifest, "parse_document", orjson.loads),
    a_blob_by_a_path: without(reference, "_DIGEST", re.compile("^sha256:")),
    a_user_of_the_nodes: without(
        users, "read_in_root", lambda root, path, limit: Path(f"{root}{path}").read_bytes()
    ),
    a_working_directory_in_proc: without(roots, "_refuse_kernel_path", lambda *_: None),
    a_password_for_another_host: without(Server, "_may_know", lambda *_: True),
    an_annotation_that_commands_the_runtime: without(
        bundle, "_annotations", lambda spec, around: dict(spec.annotations)
    ),
    root_after_all: without(confinement, "_refuse_root", lambda *_: None),
    a_parameter_of_the_machine: without(sysctls, "SAFE", frozenset({"kernel.core_pattern"})),
    a_disk_filled_by_etc_hosts: lambda patch: patch.setitem(
        globals(), "Written", lambda own: ephemeral.Written()
    ),
    a_log_that_is_a_link: without(logs, "open_beneath", follow),
    a_static_pod_named_like_a_path: without(manifests, "_check_names", lambda meta: None),
    a_command_by_a_right_to_read: without(visitors, "SESSIONS", ()),
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
def test_an_attack_on_a_node(
    attack: Callable[[Path], bool], guarded: bool, tmp_path: Path, monkeypatch: Patch
) -> None:
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside/file").write_text("untouched")
    if not guarded:
        ATTACKS[attack](monkeypatch)
    elif attack is layer_bomb:
        monkeypatch.setattr(layers, "LAYER_BYTES_MAX", 1 << 20)
    try:
        assert attack(tmp_path) is not guarded
    except REFUSALS:
        assert guarded
