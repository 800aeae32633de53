"""Manifests, indexes and image configurations as registries and archives hold them. Pure.

Docker's schema 2 and OCI's are read alike: they differ in media types only. Every document comes
from outside: whatever is missing or of a wrong type raises ImageDamaged.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from msgspec import Struct

from .interface import Image, ImageDamaged, ImageNotFound
from .reference import is_digest

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
SCHEMA_1_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_LAYER_TYPES = (
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.",
)
# As containerd's cap on manifests and indexes.
DOCUMENT_BYTES_MAX = 8 * 1024 * 1024
# overlayfs stacks at most 500 layers; builders stop at 127.
LAYERS_MAX = 256

# "v8" is what every arm64 is.
_PLAIN = (None, "", "v1", "v8")

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Blob(Struct, frozen=True):
    """A piece of content by its digest."""

    digest: str
    size: int
    media_type: str = ""


class Manifest(Struct, frozen=True):
    config: Blob
    layers: Sequence[Blob]
    """Lowest first."""


class Config(Struct, frozen=True):
    """What an image's configuration says, as far as containers need it."""

    id: str
    diff_ids: Sequence[str]
    """Of the uncompressed layers, lowest first."""
    entrypoint: Sequence[str]
    command: Sequence[str]
    env: Sequence[str]
    working_dir: str
    user: str
    stop_signal: str

    def image(
        self,
        tags: Sequence[str],
        digests: Sequence[str],
        size_bytes: int,
        *,
        pinned: bool = False,
        added_at: float = 0.0,
    ) -> Image:
        return Image(
            id=self.id,
            tags=tags,
            digests=digests,
            size_bytes=size_bytes,
            entrypoint=self.entrypoint,
            command=self.command,
            env=self.env,
            working_dir=self.working_dir,
            user=self.user,
            stop_signal=self.stop_signal,
            pinned=pinned,
            added_at=added_at,
        )


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def machine() -> str:
    """This machine's architecture in the field's words: "amd64", "arm64"."""
    name = platform.machine()
    return _MACHINES.get(name, name)


def parse_document(data: bytes, content_type: str = "") -> Mapping[str, Any]:
    """Any JSON object. Raises ImageDamaged for one that can be read as two things, or that says
    to be another than its sender does (CVE-2021-41190)."""
    if len(data) > DOCUMENT_BYTES_MAX:
        raise ImageDamaged(f"document is larger than {DOCUMENT_BYTES_MAX} bytes")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ImageDamaged(f"document is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ImageDamaged("document is not a JSON object")
    told = document.get("mediaType", "")
    if content_type in SCHEMA_1_TYPES or told in SCHEMA_1_TYPES:
        raise _outdated(told or content_type)
    known = (*MANIFEST_TYPES, *INDEX_TYPES)
    if content_type in known and told and told != content_type:
        raise ImageDamaged(f"document is sent as {content_type}, and calls itself {told}")
    if "manifests" in document and ("layers" in document or "config" in document):
        raise ImageDamaged("document is both an index and a manifest")
    if (content_type or told) in known and "schemaVersion" in document:
        as_index = (content_type or told) in INDEX_TYPES
        if as_index is not ("manifests" in document):
            raise ImageDamaged(f"document is not what its media type {content_type or told} says")
    return document


def _outdated(media_type: str) -> ImageDamaged:
    return ImageDamaged(
        f'media type "{media_type}" is no longer supported, please rebuild the image as '
        f'"{MANIFEST_TYPES[1]}" or "{MANIFEST_TYPES[0]}"'
    )


def is_index(document: Mapping[str, Any]) -> bool:
    return document.get("mediaType") in INDEX_TYPES or (
        "manifests" in document and "layers" not in document
    )


def choose(index: Mapping[str, Any], architecture: str) -> Blob:
    """The manifest for linux on this architecture, the plain one where there are some for newer
    processors. Raises ImageNotFound when there is none."""
    found: list[Mapping[str, Any]] = []
    for entry in objects(index.get("manifests")):
        where = entry.get("platform")
        if where is None and len(index["manifests"]) == 1:
            return blob(entry)
        if not isinstance(where, dict):
            continue
        if where.get("os") == "linux" and where.get("architecture") == architecture:
            if where.get("variant") in _PLAIN:
                return blob(entry)
            found.append(entry)
    if found:
        return blob(found[0])
    raise ImageNotFound(f"no match for platform in manifest: linux/{architecture}: not found")


def is_image(document: Mapping[str, Any]) -> bool:
    """Whether a manifest is of something to run: not a chart, a signature or an attestation."""
    config, layers = document.get("config"), document.get("layers")
    if not isinstance(config, dict) or not isinstance(layers, list):
        return False
    return config.get("mediaType") in CONFIG_TYPES and all(
        isinstance(layer, dict) and _is_layer(_string(layer.get("mediaType"))) for layer in layers
    )


def _is_layer(media_type: str) -> bool:
    return media_type.startswith(_LAYER_TYPES) and not media_type.endswith("+encrypted")


def architecture(data: bytes) -> str:
    """What an image's configuration is for. Raises ImageDamaged."""
    return _string(parse_document(data).get("architecture"))


def parse_manifest(document: Mapping[str, Any]) -> Manifest:
    if document.get("schemaVersion") == 1:
        raise _outdated(SCHEMA_1_TYPES[0])
    config = document.get("config")
    if not isinstance(config, dict):
        raise ImageDamaged("manifest has no config")
    found = Manifest(blob(config), [blob(entry) for entry in objects(document.get("layers"))])
    if len(found.layers) > LAYERS_MAX:
        raise ImageDamaged(f"image has more than {LAYERS_MAX} layers")
    if found.config.media_type not in ("", *CONFIG_TYPES):
        raise ImageDamaged(f"no image for containers: its config is {found.config.media_type!r}")
    for layer in found.layers:
        kind = layer.media_type
        if kind and not _is_layer(kind):
            raise ImageDamaged(f"layer {layer.digest} has unknown media type {kind!r}")
    return found


def parse_config(data: bytes) -> Config:
    """Raises ImageDamaged, also for an image of another operating system."""
    document = parse_document(data)
    if document.get("os", "linux") != "linux":
        raise ImageDamaged(f"image is for {document.get('os')}, not linux")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    found = strings(diff_ids)
    if not all(map(is_digest, found)):
        raise ImageDamaged("image configuration has a malformed diff id")
    run = document.get("config")
    if run is None:
        run = {}
    if not isinstance(run, dict):
        raise ImageDamaged("image configuration has a malformed config")
    return Config(
        id=digest_of(data),
        diff_ids=found,
        entrypoint=strings(run.get("Entrypoint")),
        command=strings(run.get("Cmd")),
        env=strings(run.get("Env")),
        working_dir=_string(run.get("WorkingDir")),
        user=_string(run.get("User")),
        stop_signal=_string(run.get("StopSignal")),
    )


def blob(entry: Mapping[str, Any]) -> Blob:
    digest, size = entry.get("digest"), entry.get("size")
    if not isinstance(digest, str) or not is_digest(digest):
        raise ImageDamaged(f"descriptor has a malformed digest: {digest!r}")
    if not isinstance(size, int) or size < 0:
        raise ImageDamaged(f"descriptor has a malformed size: {size!r}")
    return Blob(digest, size, _string(entry.get("mediaType")))


def objects(value: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ImageDamaged("manifest has a malformed list")
    return value


def strings(value: Any) -> Sequence[str]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ImageDamaged("image configuration has a malformed list")
    return value


def _string(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ImageDamaged("image configuration has a malformed value")
    return value
