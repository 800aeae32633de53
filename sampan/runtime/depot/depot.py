"""Pushes, pulls and deletions of one registry, and the images that pushes leave with the node.

Changes of what is there go one after the other; unpacking does not hold others up. What no tag,
index or subject leads to any more, because a newer push took its tag, is swept after `REPLACED_S`;
blobs that no manifest came for after `ORPHANED_S`. Sweeps happen with pushes and deletions, never
by a clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import manifest
from ..images import ImageStore
from ..interface import Image, ImageDamaged, ImageNotFound
from ..manifest import DOCUMENT_BYTES_MAX, INDEX_TYPES, MANIFEST_TYPES
from ..reference import Reference, is_digest
from .blobs import Blobs, Rejected, Upload
from .repositories import TAGS_MAX, Repositories, Repository, describe

log = logging.getLogger("sampan.runtime.depot")

REPLACED_S = 24 * 3600.0
ORPHANED_S = 24 * 3600.0
_SWEEP_S = 3600.0
"""Pushes sweep no more often."""
_CHILDREN_MAX = 1000


class Depot:
    """`domains` are the names under which nodes, pods and users know this registry, the first one
    that of the images in the store."""

    def __init__(self, root: Path, images: ImageStore, domains: Sequence[str]) -> None:
        self.domains: Collection[str] = domains
        self.domain = domains[0]
        self.blobs = Blobs(root)
        self.repositories = Repositories(root)
        self._images = images
        self._root = root
        self._opened = False
        self._changing = asyncio.Lock()
        self._arriving: list[str] = []
        """Blobs that are whole and belong to no repository yet."""
        self._swept_at = 0.0

    def open(self) -> None:
        """At the first request: a cluster that has no registry in use has no files of it."""
        if not self._opened:
            self.blobs.open()
            self.repositories.open()
            self._opened = True

    # Blobs

    def blob(self, name: str, digest: str) -> Path:
        """Raises Rejected when the repository has no such blob."""
        check_digest(digest)
        repository = self.repositories.all().get(name)
        if repository is not None and digest in repository.blobs:
            path = self.blobs.path(digest)
            if path.exists():
                return path
        raise Rejected(404, "BLOB_UNKNOWN", "blob unknown to registry")

    async def finish(self, upload: Upload, digest: str) -> None:
        check_digest(digest)
        self._arriving.append(digest)
        try:
            await asyncio.to_thread(self.blobs.finish, upload, digest)
            async with self._changing:
                await asyncio.to_thread(self.repositories.link, upload.repository, digest)
        finally:
            self._arriving.remove(digest)

    async def mount(self, name: str, source: str, digest: str) -> bool:
        """Make another repository's blob this one's too; False when there is none."""
        try:
            self.blob(source, digest)
        except Rejected:
            return False
        async with self._changing:
            await asyncio.to_thread(self.repositories.link, name, digest)
        return True

    async def delete_blob(self, name: str, digest: str) -> None:
        async with self._changing:
            self.blob(name, digest)
            repository = self.repositories.find(name)
            if any(digest in entry["blobs"] for entry in repository.manifests.values()):
                text = "a manifest of the repository needs the blob"
                raise Rejected(405, "UNSUPPORTED", text)
            del repository.blobs[digest]
            await asyncio.to_thread(self._save_and_sweep, repository)

    # Manifests

    def find(self, name: str, version: str) -> tuple[str, dict[str, Any]]:
        """(digest, record) of a tag's or digest's manifest. Raises Rejected."""
        repository = self.repositories.find(name)
        digest = repository.tags.get(version, version)
        entry = repository.manifests.get(digest)
        if entry is None or self.blobs.size(digest) is None:
            raise Rejected(404, "MANIFEST_UNKNOWN", f"manifest unknown: {name}:{version}")
        return digest, entry

    async def put(self, name: str, version: str, media_type: str, data: bytes) -> tuple[str, str]:
        """Take a manifest; if it is an image for this machine it is in the node's store then.

        (digest, digest of its subject or ""). Raises Rejected.
        """
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        tag = "" if ":" in version else version
        if not tag and version != digest:
            raise Rejected(400, "DIGEST_INVALID", f"the manifest is {digest}, not {version}")
        try:
            document = manifest.parse_document(data, media_type)
            known = check(document, media_type, len(data))
        except ImageDamaged as error:
            raise Rejected(400, "MANIFEST_INVALID", str(error)) from error
        async with self._changing:
            repository = self.repositories.make(name)
            self._check_blobs(repository, known)
            if len(repository.manifests) >= TAGS_MAX and digest not in repository.manifests:
                raise Rejected(507, "DENIED", f"more than {TAGS_MAX} manifests in a repository")
        await self._load(Reference(self.domain, name, tag, digest), document)
        async with self._changing:
            repository = self.repositories.make(name)
            await asyncio.to_thread(self.blobs.write, digest, data)
            repository.blobs.setdefault(digest, time.time())
            repository.manifests[digest] = known
            repository.replaced.pop(digest, None)
            if tag:
                _move_tag(repository, tag, digest)
            await asyncio.to_thread(self.repositories.save, repository)
            if time.monotonic() - self._swept_at > _SWEEP_S:
                await asyncio.to_thread(self._sweep)
        return digest, str(known["subject"])

    def _check_blobs(self, repository: Repository, known: Mapping[str, Any]) -> None:
        for digest in known["blobs"]:
            if digest not in repository.blobs or self.blobs.size(digest) is None:
                raise Rejected(404, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {digest}")
            # Whatever lay here without a manifest is not swept while this one is unpacked.
            repository.blobs[digest] = time.time()

    async def delete(self, name: str, version: str) -> None:
        """A tag, or a manifest with all its tags. Images in the store are the collector's."""
        async with self._changing:
            digest, _ = self.find(name, version)
            repository = self.repositories.find(name)
            if version in repository.tags:
                del repository.tags[version]
                if digest not in repository.tags.values():
                    repository.replaced[digest] = time.time()
            else:
                _drop(repository, digest)
            await asyncio.to_thread(self._save_and_sweep, repository)

    def referrers(self, name: str, digest: str, kind: str = "") -> Sequence[dict[str, Any]]:
        """Descriptors of the manifests whose subject this is."""
        repository = self.repositories.all().get(name)
        found = []
        # A sweep in another thread may take some of them away meanwhile.
        for each, entry in list(repository.manifests.items()) if repository else ():
            if entry["subject"] != digest or (kind and entry["artifact_type"] != kind):
                continue
            descriptor = {"mediaType": entry["media_type"], "digest": each, "size": entry["size"]}
            for field in ("artifact_type", "annotations"):
                if entry[field]:
                    descriptor["artifactType" if field == "artifact_type" else field] = entry[field]
            found.append(descriptor)
        return found

    # Images

    async def image(self, name: Reference) -> Image:
        """The image of a name of this registry, unpacked anew if it has been collected. Raises
        ImageNotFound, ImageDamaged."""
        self.open()
        missing = ImageNotFound(f'failed to resolve reference "{name}": {name}: not found')
        try:
            digest, _ = self.find(name.path, name.version)
        except Rejected as error:
            raise missing from error
        whole = Reference(self.domain, name.path, name.tag, digest)
        document = manifest.parse_document(self.blobs.path(digest).read_bytes())
        image = await self._load(whole, document)
        if image is None:
            raise ImageNotFound(f"{name} is no image for linux/{manifest.machine()}")
        return image

    async def _load(self, name: Reference, document: Mapping[str, Any]) -> Image | None:
        """Unpack what is for this machine; None for what is not an image for it."""
        try:
            single = self._single(name.path, document)
            if single is None or not manifest.is_image(single):
                return None
            parsed = manifest.parse_manifest(single)
            data = await asyncio.to_thread(self.blobs.path(parsed.config.digest).read_bytes)
            if manifest.architecture(data) != manifest.machine():
                return None
            config = manifest.parse_config(data)
            return await self._images.unpack(name, parsed, config, self.blobs.path)
        except FileNotFoundError as error:
            raise Rejected(404, "MANIFEST_BLOB_UNKNOWN", "a layer is not here") from error
        except ImageNotFound:
            return None
        except ImageDamaged as error:
            raise Rejected(400, "MANIFEST_INVALID", str(error)) from error

    def _single(self, name: str, document: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The manifest itself, or the one of an index that is for this machine, if it is here."""
        if not manifest.is_index(document):
            return document
        chosen = manifest.choose(document, manifest.machine()).digest
        repository = self.repositories.make(name)
        if chosen not in repository.manifests:
            return None
        found = manifest.parse_document(self.blobs.path(chosen).read_bytes())
        return None if manifest.is_index(found) else found

    # Sweeping

    def _save_and_sweep(self, repository: Repository) -> None:
        self.repositories.save(repository)
        self._sweep()

    def _sweep(self) -> None:
        """Blocks."""
        self._swept_at, now = time.monotonic(), time.time()
        kept: set[str] = set(self._arriving)
        for repository in list(self.repositories.all().values()):
            if sweep(repository, now):
                self.repositories.save(repository)
            kept.update(repository.blobs)
        freed = self.blobs.retain(kept)
        if freed:
            log.info("swept %d bytes of blobs nothing leads to", freed)


def check(document: Mapping[str, Any], media_type: str, size: int) -> dict[str, Any]:
    """A pushed manifest's record. Raises ImageDamaged for one that is malformed."""
    if media_type not in (*MANIFEST_TYPES, *INDEX_TYPES):
        raise ImageDamaged(f"media type {media_type!r} is none of manifests")
    if size > DOCUMENT_BYTES_MAX:
        raise ImageDamaged(f"a manifest has at most {DOCUMENT_BYTES_MAX} bytes")
    if document.get("schemaVersion") != 2:
        raise ImageDamaged("a manifest's schemaVersion has to be 2")
    if media_type in INDEX_TYPES:
        children = manifest.objects(document.get("manifests"))
        if len(children) > _CHILDREN_MAX:
            raise ImageDamaged(f"an index has at most {_CHILDREN_MAX} manifests")
        parts = list(children)
    else:
        config = document.get("config")
        if not isinstance(config, dict):
            raise ImageDamaged("manifest has no config")
        parts = [config, *manifest.objects(document.get("layers") or [])]
    for part in parts:
        manifest.blob(part)
    subject = document.get("subject")
    if subject is not None:
        if not isinstance(subject, dict):
            raise ImageDamaged("manifest has a malformed subject")
        manifest.blob(subject)
    annotations = document.get("annotations")
    if annotations is not None and not isinstance(annotations, dict):
        raise ImageDamaged("manifest has malformed annotations")
    return describe(document, media_type, size)


def check_digest(text: str) -> None:
    """Raises Rejected."""
    if not is_digest(text):
        raise Rejected(400, "DIGEST_INVALID", "provided digest is malformed, or not of sha256")


def _move_tag(repository: Repository, tag: str, digest: str) -> None:
    if len(repository.tags) >= TAGS_MAX and tag not in repository.tags:
        raise Rejected(507, "DENIED", f"more than {TAGS_MAX} tags in a repository")
    old = repository.tags.get(tag)
    repository.tags[tag] = digest
    if old is not None and old != digest and old not in repository.tags.values():
        repository.replaced[old] = time.time()


def _drop(repository: Repository, digest: str) -> None:
    """The manifest with its tags; its blobs go when nothing needs them."""
    for tag in [tag for tag, found in repository.tags.items() if found == digest]:
        del repository.tags[tag]
    entry = repository.manifests.pop(digest)
    repository.replaced.pop(digest, None)
    for each in (digest, *entry["blobs"]):
        if each in repository.blobs:
            repository.blobs[each] = 0.0
    # What was only there for it goes with it: an index's manifests, a subject's signatures.
    tagged = set(repository.tags.values())
    for each, other in repository.manifests.items():
        if each not in tagged and (each in entry["children"] or other["subject"] == digest):
            repository.replaced[each] = 0.0


def sweep(repository: Repository, now: float) -> bool:
    """Drop what nothing leads to and nobody has just pushed; whether anything went. Pure but for
    the record itself."""
    changed = False
    while True:
        entries = repository.manifests
        led_to = {child for entry in entries.values() for child in entry["children"]}
        led_to.update(repository.tags.values())
        gone = [
            digest
            for digest, at in repository.replaced.items()
            if digest not in led_to
            and now - at > REPLACED_S
            and (not entries[digest]["subject"] or entries[digest]["subject"] not in entries)
        ]
        if not gone:
            break
        for digest in gone:
            _drop(repository, digest)
        changed = True
    needed = {blob for entry in repository.manifests.values() for blob in entry["blobs"]}
    needed.update(repository.manifests)
    for digest, at in list(repository.blobs.items()):
        if digest not in needed and now - at > ORPHANED_S:
            del repository.blobs[digest]
            changed = True
    return changed
