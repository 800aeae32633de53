"""Build an image from files, as an archive that `ImageStore.load` and docker both read. Pure.

The same input gives the same bytes: entries are sorted, times are zero. One layer; enough for
static programs and scripts, and the base of `sampan image build`.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence

import orjson
from msgspec import Struct

from .manifest import machine
from .reference import parse


class File(Struct, frozen=True):
    """A regular file, by default one that everybody may read and run."""

    data: bytes
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


class Symlink(Struct, frozen=True):
    target: str


class Directory(Struct, frozen=True):
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


Entry = File | Symlink | Directory


class ImageConfig(Struct, frozen=True):
    """What a container of the image runs, unless its pod says otherwise."""

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Sequence[str] = ()
    """"NAME=value" lines."""
    working_dir: str = ""
    user: str = ""
    exposed_ports: Sequence[str] = ()
    """e.g. "80/tcp"."""
    stop_signal: str = ""


def build_layer(files: Mapping[str, Entry]) -> bytes:
    """A tar of the files, by paths without a leading "/"; parent folders are added."""
    entries: dict[str, Entry] = {}
    for path in sorted(files):
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts)):
            entries.setdefault("/".join(parts[:depth]), Directory())
        entries["/".join(parts)] = files[path]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(entries):
            member, data = _member(path, entries[path])
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _member(path: str, entry: Entry) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(path)
    if isinstance(entry, Symlink):
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o777
        return member, b""
    member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.gid
    if isinstance(entry, Directory):
        member.type = tarfile.DIRTYPE
        return member, b""
    member.size = len(entry.data)
    return member, entry.data


def build_config(config: ImageConfig, layers: Sequence[bytes]) -> bytes:
    """The image's configuration; its digest is the image's id."""
    run = {
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.command),
        "Env": list(config.env),
        "WorkingDir": config.working_dir,
        "User": config.user,
        "StopSignal": config.stop_signal,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
    }
    document = {
        "architecture": machine(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {name: value for name, value in run.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_hash(data)}" for data in layers]},
        # Tools that build upon an image count its history against its layers.
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "sampan"} for _ in layers],
    }
    return orjson.dumps(document)


def build_archive(files: Mapping[str, Entry], config: ImageConfig, tag: str) -> bytes:
    """A docker archive (as `docker save` writes) of one image with one layer."""
    return pack_archive([build_layer(files)], config, tag)


def pack_archive(layers: Sequence[bytes], config: ImageConfig, tag: str) -> bytes:
    """As `build_archive`, of ready layers, lowest first."""
    document = build_config(config, layers)
    contents = {f"{_hash(document)}.json": document}
    names = []
    for data in layers:
        names.append(f"{_hash(data)}/layer.tar")
        contents[names[-1]] = data
    entry = {
        "Config": f"{_hash(document)}.json",
        "RepoTags": [_familiar(tag)],
        "Layers": names,
    }
    contents["manifest.json"] = orjson.dumps([entry])
    return _tar(contents)


def pack_oci_archive(layers: Sequence[bytes], config: ImageConfig, tag: str) -> bytes:
    """An OCI archive: an image layout in a tar."""
    document = build_config(config, layers)
    contents = {"oci-layout": orjson.dumps({"imageLayoutVersion": "1.0.0"})}

    def add(data: bytes, media_type: str) -> dict[str, object]:
        contents[f"blobs/sha256/{_hash(data)}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{_hash(data)}", "size": len(data)}

    oci = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{oci}.manifest.v1+json",
        "config": add(document, f"{oci}.config.v1+json"),
        "layers": [add(data, f"{oci}.layer.v1.tar") for data in layers],
    }
    entry = add(orjson.dumps(manifest), f"{oci}.manifest.v1+json")
    entry["annotations"] = {"io.containerd.image.name": str(parse(tag))}
    contents["index.json"] = orjson.dumps({"schemaVersion": 2, "manifests": [entry]})
    return _tar(contents)


def _tar(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(contents):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(contents[name]), 0o644
            tar.addfile(member, io.BytesIO(contents[name]))
    return buffer.getvalue()


def _familiar(tag: str) -> str:
    """docker writes its own registry's names short."""
    return str(parse(tag)).removeprefix("docker.io/").removeprefix("library/")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
