"""The image store on disk: archives in, names found, layers shared and removed."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.runtime import build, manifest
from sampan.runtime.build import File, ImageConfig, build_layer, pack_archive, pack_oci_archive
from sampan.runtime.catalog import Catalog
from sampan.runtime.depot import blobs, depot
from sampan.runtime.images import ImageStore
from sampan.runtime.interface import ImageDamaged, ImageNotFound

pytestmark = pytest.mark.root

BASE = build_layer({"etc/base": File(b"base")})
TOP = build_layer({"etc/top": File(b"top")})
CONFIG = ImageConfig(
    entrypoint=["/app"], command=["--x"], env=["A=b"], working_dir="/srv", user="app"
)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "archive.tar"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pack", [pack_archive, pack_oci_archive])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
async def test_archives(store: ImageStore, tmp_path: Path, pack, compress) -> None:
    path = write(tmp_path, compress(pack([BASE, TOP], CONFIG, "app:1")))
    (image,) = await store.load(path)
    assert image.tags == ["docker.io/library/app:1"]
    assert image.entrypoint == ["/app"]
    assert image.command == ["--x"]
    assert image.env == ["A=b"]
    assert (image.working_dir, image.user) == ("/srv", "app")
    top, base = store.layers(image.id)
    assert (top / "etc/top").read_text() == "top"
    assert (base / "etc/base").read_text() == "base"
    for name in ("app:1", "docker.io/library/app:1", image.id, image.id[7:], image.id[7:22]):
        assert store.find(name) == image
    assert store.find("app:2") is None
    assert store.find("Not A Name") is None


async def test_layout_folder(store: ImageStore, tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    with tarfile.open(fileobj=io.BytesIO(pack_oci_archive([BASE], CONFIG, "a:1"))) as archive:
        archive.extractall(folder)
    (image,) = await store.load(folder)
    assert store.find("a:1") == image
    assert store.find(image.digests[0]) == image


async def test_another_process_sees_it(store: ImageStore, tmp_path: Path) -> None:
    other = ImageStore(tmp_path / "images")
    assert other.list() == []
    (image,) = await store.load(write(tmp_path, pack_archive([BASE], CONFIG, "a:1")))
    assert list(other.list()) == [image]
    await other.remove("a:1")
    assert store.list() == []


async def test_what_is_known_already_is_not_written_again(
    store: ImageStore, tmp_path: Path
) -> None:
    archive = write(tmp_path, pack_archive([BASE], CONFIG, "a:1"))
    (image,) = await store.load(archive)
    assert image.pinned
    files = [*(tmp_path / "images").glob("*.json"), *(tmp_path / "images/images").iterdir()]
    before = [path.stat().st_ino for path in files]
    assert await store.load(archive) == [image]
    assert [path.stat().st_ino for path in files] == before
    (again,) = await store.load(write(tmp_path, pack_archive([BASE], CONFIG, "b:1")))
    assert list(again.tags) == ["docker.io/library/b:1"], "what was loaded, not all it is called"
    other = ImageStore(tmp_path / "images").find("a:1")
    assert other is not None
    assert list(other.tags) == ["docker.io/library/a:1", "docker.io/library/b:1"]


async def test_layers_live_as_long_as_an_image_has_them(store: ImageStore, tmp_path: Path) -> None:
    await store.load(write(tmp_path, pack_archive([BASE], CONFIG, "base:1")))
    await store.load(write(tmp_path, pack_archive([BASE, TOP], CONFIG, "app:1")))
    layers = tmp_path / "images/layers"
    assert len(list(layers.iterdir())) == 2
    await store.remove("app:1")
    (kept,) = layers.iterdir()
    assert (kept / "etc/base").exists()
    await store.remove("base:1")
    assert not list(layers.iterdir())
    assert not list((tmp_path / "images/drafts").iterdir())
    with pytest.raises(ImageNotFound):
        await store.remove("base:1")
    with pytest.raises(ImageNotFound):
        store.layers("sha256:" + "0" * 64)


async def test_a_tag_moves_and_names_go_one_by_one(store: ImageStore, tmp_path: Path) -> None:
    (old,) = await store.load(write(tmp_path, pack_archive([BASE], CONFIG, "a:1")))
    await store.load(write(tmp_path, pack_archive([BASE], CONFIG, "a:2")))
    found = store.find("a:2")
    assert found is not None
    assert found.id == old.id
    await store.remove("a:2")
    assert store.find("a:2") is None
    (new,) = await store.load(write(tmp_path, pack_archive([TOP], CONFIG, "a:1")))
    assert store.find("a:1") == new
    kept = store.find(old.id)
    assert kept is not None, "an image whose tag moved away stays, by its id"
    assert kept.tags == []


def damaged(kind: str) -> bytes:
    good = pack_archive([BASE], CONFIG, "bad:1")
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        files = {
            member.name: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
        }
    layer = next(name for name in files if name.endswith("layer.tar"))
    config = next(name for name in files if name.endswith(".json") and name != "manifest.json")
    match kind:
        case "empty":
            return b""
        case "truncated":
            return good[: len(good) // 2]
        case "no manifest":
            del files["manifest.json"]
        case "manifest is not json":
            files["manifest.json"] = b"{"
        case "manifest is no list":
            files["manifest.json"] = b"{}"
        case "layer is another":
            files[layer] = TOP
        case "layer is missing":
            del files[layer]
        case "config is missing":
            del files[config]
        case "layers and diff ids differ":
            document = orjson.loads(files[config])
            document["rootfs"]["diff_ids"] = []
            files[config] = orjson.dumps(document)
        case "diff id is a path":
            document = orjson.loads(files[config])
            document["rootfs"]["diff_ids"] = ["sha256:../../../../etc"]
            files[config] = orjson.dumps(document)
        case "tag is not a name":
            entry = orjson.loads(files["manifest.json"])
            entry[0]["RepoTags"] = ["../../x"]
            files["manifest.json"] = orjson.dumps(entry)
        case "windows":
            files[config] = orjson.dumps({**orjson.loads(files[config]), "os": "windows"})
    return build._tar(files)


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "truncated",
        "no manifest",
        "manifest is not json",
        "manifest is no list",
        "layer is another",
        "layer is missing",
        "config is missing",
        "layers and diff ids differ",
        "diff id is a path",
        "tag is not a name",
        "windows",
    ],
)
async def test_damaged_archives_leave_nothing(store: ImageStore, tmp_path: Path, kind: str) -> None:
    with pytest.raises(ImageDamaged):
        await store.load(write(tmp_path, damaged(kind)))
    assert store.list() == []
    root = tmp_path / "images"
    assert not list((root / "layers").iterdir())
    assert not list((root / "drafts").iterdir())
    assert not list((root / "images").iterdir())


async def test_links_in_an_archive_stay_inside(store: ImageStore, tmp_path: Path) -> None:
    """A layer file may be a link to another file of the archive, never to one of the host."""
    secret = tmp_path / "secret.tar"
    secret.write_bytes(BASE)
    buffer = io.BytesIO()
    good = pack_archive([BASE], CONFIG, "bad:1")
    with (
        tarfile.open(fileobj=io.BytesIO(good)) as archive,
        tarfile.open(fileobj=buffer, mode="w") as evil,
    ):
        for member in archive:
            if member.name.endswith("layer.tar"):
                member.type, member.linkname, member.size = tarfile.SYMTYPE, str(secret), 0
                evil.addfile(member)
            else:
                evil.addfile(member, archive.extractfile(member))
    with pytest.raises(ImageDamaged, match="no file"):
        await store.load(write(tmp_path, buffer.getvalue()))


async def test_concurrent_loads(store: ImageStore, tmp_path: Path) -> None:
    path = write(tmp_path, pack_archive([BASE, TOP], CONFIG, "a:1"))
    other = ImageStore(tmp_path / "images")
    results = await asyncio.gather(store.load(path), other.load(path), store.load(path))
    assert len({image.id for (image,) in results}) == 1
    assert len(list((tmp_path / "images/layers").iterdir())) == 2


async def test_drafts_of_the_dead_are_swept(store: ImageStore, tmp_path: Path) -> None:
    drafts = tmp_path / "images/drafts"
    (drafts / "dead").mkdir()
    (drafts / "dead/file").write_text("x")
    with store._catalog.workspace() as living:
        ImageStore(tmp_path / "images")
        assert list(drafts.iterdir()) == [living]


def test_a_draft_that_is_swept_before_it_is_locked_is_made_again(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes of a machine open one image store at the same moment."""
    root = tmp_path / "images"
    folders: list[Path] = []
    mkdir = Path.mkdir

    def mkdir_and_sweep(path: Path, *given: Any, **named: Any) -> None:
        mkdir(path, *given, **named)
        if path.parent == root / "drafts" and not folders:
            folders.append(path)
            ImageStore(root)

    monkeypatch.setattr(Path, "mkdir", mkdir_and_sweep)
    with Catalog(root).workspace() as draft:
        assert draft.is_dir()
        assert draft != folders[0]
        ImageStore(root)
        assert draft.is_dir()
    assert not list((root / "drafts").iterdir())


def test_building_is_reproducible() -> None:
    files = {"b/x": File(b"1"), "a": File(b"2", 0o644)}
    one = build.build_archive(files, CONFIG, "a:1")
    two = build.build_archive(dict(reversed(files.items())), CONFIG, "a:1")
    assert one == two


NUMBERS = st.integers(-(2**63), 2**63 - 1)
DIGESTS = st.sampled_from(["sha256:" + "0" * 64, "sha256:../x", "", "x", None, 5])
KINDS = st.sampled_from(
    [*manifest.MANIFEST_TYPES, *manifest.INDEX_TYPES, *manifest.CONFIG_TYPES, "", None, [], "x"]
)
PARTS = st.dictionaries(
    st.sampled_from(["digest", "size", "mediaType", "platform", "urls"]),
    st.one_of(DIGESTS, KINDS, NUMBERS, st.dictionaries(st.just("os"), st.just("linux"))),
)
JUNK = st.one_of(st.none(), NUMBERS, st.text(max_size=3), PARTS, st.lists(PARTS, max_size=3))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "schemaVersion",
                "mediaType",
                "config",
                "layers",
                "manifests",
                "subject",
                "annotations",
                "rootfs",
                "architecture",
                "artifactType",
            ]
        ),
        st.one_of(JUNK, KINDS, st.just(2)),
    ),
    st.sampled_from(manifest.MANIFEST_TYPES + manifest.INDEX_TYPES),
)
def test_no_document_breaks_who_reads_it(document: Any, kind: str) -> None:
    data = orjson.dumps(document)
    for read in (
        lambda: depot.check(manifest.parse_document(data, kind), kind, len(data)),
        lambda: manifest.parse_manifest(document),
        lambda: manifest.choose(document, "amd64"),
        lambda: manifest.is_image(document),
        lambda: manifest.parse_config(data),
    ):
        with suppress(ImageDamaged, ImageNotFound):
            read()


class Killed(BaseException):
    """What ends a process between two steps: from then on it does nothing."""


STEPS = ((os, "rename"), (os, "replace"), (Path, "unlink"), (Path, "mkdir"), (shutil, "rmtree"))


@contextmanager
def killed_after(steps: int, patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Yields how many steps are left."""
    left = [steps]
    with patch.context() as inner, suppress(Killed):
        for holder, name in STEPS:
            found = getattr(holder, name)

            def act(*given: Any, real: Any = found, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return real(*given, **named)

            inner.setattr(holder, name, act)
        yield left


def test_nothing_stays_of_what_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registering and removing an image, killed before each step: the next to open the folder
    finds the image or not, with all its layers, and no more."""
    diff_id = "sha256:" + "a" * 64
    config = manifest.Config("sha256:" + "c" * 64, [diff_id], [], [], [], "/", "", "")
    names = ["docker.io/library/a:1", config.id]
    for number in range(40):
        place = tmp_path / str(number)
        catalog = Catalog(place)
        catalog.open()
        with killed_after(number, monkeypatch) as left:
            with catalog.workspace() as space:
                layer = space / ("a" * 64)
                layer.mkdir()
                catalog.add(config, 1, names, {diff_id: layer})
            catalog.remove(names, config.id)
        again = Catalog(place)
        again.open()
        here = len(again.images())
        for folder in ("layers", "images"):
            assert len([*(place / folder).iterdir()]) == here, (number, folder)
        assert not [*(place / "drafts").iterdir(), *place.glob("*.new")]
        if left[0] > 0:
            assert number > 8
            return
    raise AssertionError("never whole")


async def test_who_comes_while_a_pull_is_given_up_begins_another(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ending, pulls = asyncio.Event(), asyncio.Event(), 0

    async def pull(name: Any, credentials: Any) -> Any:
        nonlocal pulls
        pulls += 1
        if pulls > 1:
            return "image"
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            # What is under way in threads is waited for.
            await ending.wait()

    monkeypatch.setattr(store, "_pull", pull)
    first = asyncio.create_task(store.pull("r.io/x"))
    await begun.wait()
    first.cancel()
    await asyncio.sleep(0)
    second = asyncio.create_task(store.pull("r.io/x"))
    await asyncio.sleep(0)
    ending.set()
    found: Any = await second
    assert found == "image"
    await asyncio.gather(first, return_exceptions=True)
    assert store._pulls == {}


async def test_what_a_failed_write_has_left_is_no_part_of_a_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends it again, and its digest says nothing of what was there."""
    found = blobs.Blobs(tmp_path)
    found.open()
    upload = found.begin("app")

    async def chunks(data: bytes) -> AsyncIterator[bytes]:
        yield data

    append = found._append

    def fail(upload: blobs.Upload, file: Any, data: bytes) -> None:
        file.write(data[:2])
        raise OSError(5, "Input/output error")

    await found.append(upload, chunks(b"one"))
    monkeypatch.setattr(found, "_append", fail)
    with pytest.raises(OSError, match="Input/output"):
        await found.append(upload, chunks(b"two"))
    monkeypatch.setattr(found, "_append", append)
    await found.append(upload, chunks(b"two"))
    digest = manifest.digest_of(b"onetwo")
    found.finish(upload, digest)
    assert found.path(digest).read_bytes() == b"onetwo"


async def test_a_blob_that_two_delete_is_gone_for_the_second(
    store: ImageStore, tmp_path: Path
) -> None:
    content = depot.Depot(tmp_path / "registry", store, ["localhost:1"])
    content.open()
    upload = content.blobs.begin("app")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"data"

    await content.blobs.append(upload, chunks())
    digest = manifest.digest_of(b"data")
    await content.finish(upload, digest)
    both = (content.delete_blob("app", digest) for _ in range(2))
    done = await asyncio.gather(*both, return_exceptions=True)
    assert done[0] is None
    assert isinstance(done[1], blobs.Rejected)
    assert done[1].status == 404
