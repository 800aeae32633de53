"""Images in a file: `docker save` archives, OCI archives and OCI layout folders.

Reads only; nothing is unpacked here. Members are found by name inside the file, links between
members are followed inside it, and a folder is read through openat2, so no archive reaches
another file. Blocking, for a worker thread.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

from msgspec import Struct

from ..linux.openat2 import open_beneath
from . import manifest
from .inflate import CHUNK_BYTES, Inflated
from .interface import ImageDamaged
from .layers import LAYER_BYTES_MAX, Member
from .manifest import DOCUMENT_BYTES_MAX, Config, digest_of, parse_config, parse_document
from .reference import InvalidReference, parse

# An archive with more files than this is none of images.
MEMBERS_MAX = 100_000
_LINKS_MAX = 8
_INDEX_DEPTH_MAX = 4


class Contents(Protocol):
    """The files of an archive by name."""

    def read(self, name: str, limit: int) -> bytes:
        """Raises ImageDamaged when it is missing or larger."""
        ...

    def open(self, name: str) -> IO[bytes]: ...

    def has(self, name: str) -> bool: ...


class Layer(Struct, frozen=True):
    file: str
    """Its name in the archive."""
    diff_id: str
    digest: str = ""
    """As stored; "" when the archive does not say."""


class Found(Struct, frozen=True):
    """One image of an archive."""

    config: Config
    layers: Sequence[Layer]
    names: Sequence[str]
    """Full names, with tag or digest."""


@contextmanager
def open_archive(path: Path, scratch: Path) -> Iterator[Contents]:
    """A tar, a compressed tar (unpacked into `scratch` first), or a folder."""
    try:
        if path.is_dir():
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield _Folder(fd)
            finally:
                os.close(fd)
            return
        with open(path, "rb") as file:
            plain = _plain(file, scratch)
            with plain, tarfile.open(fileobj=plain, mode="r:", tarinfo=Member) as tar:
                yield _Tar(tar)
    except (tarfile.TarError, EOFError) as error:
        raise ImageDamaged(f"{path.name} is not an image archive: {error}") from error


def _plain(file: IO[bytes], scratch: Path) -> IO[bytes]:
    head = file.read(4)
    file.seek(0)
    if not head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        return file
    copy = open(scratch / "archive", "w+b")  # noqa: SIM115 - the caller closes it
    try:
        stream = Inflated(file, LAYER_BYTES_MAX)
        shutil.copyfileobj(cast(IO[bytes], stream), copy, CHUNK_BYTES)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


def images_of(contents: Contents, architecture: str) -> Sequence[Found]:
    """Every image of the archive that is for this machine. Raises ImageDamaged."""
    if contents.has("index.json"):
        found = list(_oci_images(contents, architecture))
    elif contents.has("manifest.json"):
        found = list(_docker_images(contents))
    else:
        raise ImageDamaged("neither a docker archive (manifest.json) nor an OCI one (index.json)")
    if not found:
        raise ImageDamaged(f"the archive has no image for linux/{architecture}")
    return found


def _docker_images(contents: Contents) -> Iterator[Found]:
    import orjson

    try:
        entries = orjson.loads(contents.read("manifest.json", DOCUMENT_BYTES_MAX))
    except orjson.JSONDecodeError as error:
        raise ImageDamaged(f"manifest.json is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise ImageDamaged("manifest.json is not a list")
    for entry in entries:
        if not isinstance(entry, dict):
            raise ImageDamaged("manifest.json has a malformed entry")
        yield _docker_image(contents, entry)


def _docker_image(contents: Contents, entry: Mapping[str, Any]) -> Found:
    files = manifest.strings(entry.get("Layers"))
    config = parse_config(contents.read(str(entry.get("Config")), DOCUMENT_BYTES_MAX))
    if len(files) != len(config.diff_ids):
        raise ImageDamaged(f"{len(files)} layers, but {len(config.diff_ids)} diff ids")
    layers = [Layer(file, diff_id) for file, diff_id in zip(files, config.diff_ids, strict=True)]
    return Found(config, layers, _names(manifest.strings(entry.get("RepoTags"))))


def _oci_images(contents: Contents, architecture: str) -> Iterator[Found]:
    index = parse_document(contents.read("index.json", DOCUMENT_BYTES_MAX))
    for entry in manifest.objects(index.get("manifests")):
        where = entry.get("platform")
        if isinstance(where, dict) and where.get("architecture") not in (architecture, None):
            continue
        annotations = entry.get("annotations")
        names = _oci_names(annotations if isinstance(annotations, dict) else {})
        blob = manifest.blob(entry)
        document = _blob_document(contents, blob)
        for _ in range(_INDEX_DEPTH_MAX):
            if not manifest.is_index(document):
                break
            blob = manifest.choose(document, architecture)
            document = _blob_document(contents, blob)
        yield _oci_image(contents, document, [*names, *_digests(names, blob.digest)])


def _oci_image(contents: Contents, document: Mapping[str, Any], names: Sequence[str]) -> Found:
    parsed = manifest.parse_manifest(document)
    data = contents.read(_blob_path(parsed.config.digest), DOCUMENT_BYTES_MAX)
    if digest_of(data) != parsed.config.digest:
        raise ImageDamaged(f"config is not {parsed.config.digest}")
    config = parse_config(data)
    if len(parsed.layers) != len(config.diff_ids):
        raise ImageDamaged(f"{len(parsed.layers)} layers, but {len(config.diff_ids)} diff ids")
    layers = [
        Layer(_blob_path(blob.digest), diff_id, blob.digest)
        for blob, diff_id in zip(parsed.layers, config.diff_ids, strict=True)
    ]
    return Found(config, layers, names)


def _blob_document(contents: Contents, blob: manifest.Blob) -> Mapping[str, Any]:
    data = contents.read(_blob_path(blob.digest), DOCUMENT_BYTES_MAX)
    if digest_of(data) != blob.digest:
        raise ImageDamaged(f"manifest is not {blob.digest}")
    return parse_document(data)


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _oci_names(annotations: Mapping[str, Any]) -> Sequence[str]:
    """containerd writes the full name; others only a tag, or a name with one."""
    full = annotations.get("io.containerd.image.name")
    name = annotations.get("org.opencontainers.image.ref.name")
    if isinstance(full, str):
        return _names([full])
    if isinstance(name, str) and (":" in name or "/" in name):
        return _names([name])
    return ()


def _names(texts: Sequence[str]) -> Sequence[str]:
    names = []
    for text in texts:
        try:
            names.append(str(parse(text)))
        except InvalidReference as error:
            raise ImageDamaged(f"the archive names an image {text!r}: {error}") from error
    return names


def _digests(names: Sequence[str], digest: str) -> Sequence[str]:
    return [parse(name).with_digest(digest) for name in names if "@" not in name]


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            if len(self._members) >= MEMBERS_MAX:
                raise ImageDamaged(f"the archive has more than {MEMBERS_MAX} files")
            self._members[posixpath.normpath(member.name)] = member

    def _find(self, name: str) -> tarfile.TarInfo:
        """Older `docker save` links a layer that two images share."""
        path = posixpath.normpath(name)
        for _ in range(_LINKS_MAX):
            member = self._members.get(path)
            if member is None:
                break
            if member.isreg():
                return member
            if member.issym():
                path = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
            elif member.islnk():
                path = posixpath.normpath(member.linkname)
            else:
                break
        raise ImageDamaged(f"the archive has no file {name!r}")

    def has(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str, limit: int) -> bytes:
        with self.open(name) as file:
            return _read_whole(file, name, limit)

    def open(self, name: str) -> IO[bytes]:
        file = self._tar.extractfile(self._find(name))
        if file is None:
            raise ImageDamaged(f"the archive has no file {name!r}")
        return file


class _Folder:
    def __init__(self, root: int) -> None:
        self._root = root

    def has(self, name: str) -> bool:
        try:
            os.close(open_beneath(self._root, name, os.O_PATH))
        except OSError:
            return False
        return True

    def read(self, name: str, limit: int) -> bytes:
        with self.open(name) as file:
            return _read_whole(file, name, limit)

    def open(self, name: str) -> IO[bytes]:
        try:
            fd = open_beneath(self._root, name, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise ImageDamaged(f"the layout has no file {name!r}: {error.strerror}") from error
        return open(fd, "rb")


def _read_whole(file: IO[bytes], name: str, limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise ImageDamaged(f"{name!r} is larger than {limit} bytes")
    return data
