"""The node's image store: load archives, pull from registries, find, list, remove.

Pulls and loads run in the caller's task, their blocking parts (unpacking, hashing, disk) in
worker threads. Concurrent pulls of one name share one task. At most `PULLS_MAX` images are pulled,
`registry.DOWNLOADS` layers of each downloaded and `UNPACKERS` layers unpacked at a time in one
process; what comes beyond waits its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from . import archive
from .catalog import Catalog, LayerMissing
from .elsewhere import Elsewhere
from .interface import Credentials, Image, ImageDamaged, ImageNotFound, RuntimeFailure
from .layers import unpack
from .manifest import Blob, Config, Manifest, machine
from .partials import Partials
from .reference import InvalidReference, Reference, is_id, parse

if TYPE_CHECKING:
    from .registry import Session

# Unpacking keeps a processor busy; two at a time leave room for the event loop.
UNPACKERS = 2
# Each pull holds a few connections and megabytes; more would only share the same line.
PULLS_MAX = 6
# How often a load starts over when others remove layers it counted on.
_ATTEMPTS = 3


class Local(Protocol):
    """A registry whose content is on this node (`depot`)."""

    domain: str
    """Of its images in the store."""
    domains: Collection[str]
    """All the names it goes by."""

    async def image(self, name: Reference) -> Image:
        """Unpacked. Raises ImageNotFound, ImageDamaged."""
        ...


class ImageStore:
    """`Images` in a folder; several processes may use the same one."""

    def __init__(
        self,
        root: Path,
        *,
        insecure_registries: Collection[str] = (),
        settings: Sequence[Path] = (),
    ) -> None:
        """Makes the folder. `insecure_registries` ("host" or "host:port") may be spoken to
        without TLS, as those on loopback always may; `settings` are folders as `mirrors.py` has
        them."""
        self._catalog = Catalog(root)
        self._partials = Partials(root / "partial")
        self._insecure = frozenset(insecure_registries)
        self._settings = settings
        self._unpackers = asyncio.Semaphore(UNPACKERS)
        self._pulling = asyncio.Semaphore(PULLS_MAX)
        self._pulls: dict[str, _Shared] = {}
        self.local: Local | Elsewhere | None = None
        """The cluster's own registry."""
        self._catalog.open()
        self._partials.open()

    def find(self, reference: str) -> Image | None:
        """By tag, digest, id (also shortened to 12 digits or more) or short name."""
        images = self._catalog.images()
        if is_id(reference):
            return images.get(f"sha256:{reference.removeprefix('sha256:')}")
        try:
            name = self._parse(reference)
        except InvalidReference:
            return None
        references = self._catalog.references()
        if name.digest:
            wanted = name.with_digest(name.digest)
            found = images.get(references.get(wanted, ""))
            return found or self._by_digest(name.digest)
        return images.get(references.get(name.tagged, "")) or self._by_prefix(reference)

    def _parse(self, reference: str) -> Reference:
        """In full, and by the one name that the node's own registry has here."""
        name = parse(reference)
        if self.local is not None and name.domain in self.local.domains:
            return Reference(self.local.domain, name.path, name.tag, name.digest)
        return name

    def _by_digest(self, digest: str) -> Image | None:
        """Content is the same whatever repository it came from."""
        suffix = f"@{digest}"
        for name, image_id in self._catalog.references().items():
            if name.endswith(suffix):
                return self._catalog.images().get(image_id)
        return None

    def _by_prefix(self, text: str) -> Image | None:
        if len(text) < 12 or not all(digit in "0123456789abcdef" for digit in text):
            return None
        found = [
            image
            for image_id, image in self._catalog.images().items()
            if image_id.startswith(f"sha256:{text}")
        ]
        return found[0] if len(found) == 1 else None

    @property
    def registry(self) -> Path:
        """Where the node's own registry keeps what is pushed to it."""
        return self._catalog.root / "registry"

    def list(self) -> Sequence[Image]:
        return list(self._catalog.images().values())

    def layers(self, image_id: str) -> Sequence[Path]:
        """Directories for overlayfs, uppermost first. Raises ImageNotFound."""
        return self._catalog.layers(image_id)

    async def open_layers(self, image_id: str) -> Sequence[Path]:
        return self.layers(image_id)

    async def load(self, archive: Path) -> Sequence[Image]:
        """Import every image of an archive that is for this machine. All or nothing per image.
        Raises ImageDamaged, OSError."""
        async with self._unpackers:
            given = await asyncio.to_thread(self._load, archive)
        images = self._catalog.images()
        return [images[key].given(names) for key, names in given.items() if key in images]

    def _load(self, path: Path) -> Mapping[str, Sequence[str]]:
        """Id -> what the archive calls the image."""
        given: dict[str, Sequence[str]] = {}
        with (
            self._catalog.workspace() as space,
            archive.open_archive(path, space) as contents,
        ):
            for number, found in enumerate(archive.images_of(contents, machine())):
                self._load_one(contents, found, space / str(number))
                given[found.config.id] = [*given.get(found.config.id, ()), *found.names]
        return given

    def _load_one(self, contents: archive.Contents, found: archive.Found, space: Path) -> None:
        for attempt in range(_ATTEMPTS):
            here = space.with_name(f"{space.name}-{attempt}")
            here.mkdir()
            size = 0
            unpacked: dict[str, Path] = {}
            for layer in found.layers:
                if layer.diff_id in unpacked:
                    continue
                with contents.open(layer.file) as file:
                    size += file.seek(0, 2)
                    file.seek(0)
                    if self._catalog.layer(layer.diff_id).is_dir():
                        continue
                    target = here / layer.diff_id.removeprefix("sha256:")
                    target.mkdir(mode=0o755)
                    unpack(file, target, diff_id=layer.diff_id, digest=layer.digest)
                    unpacked[layer.diff_id] = target
            # An image without any name is found by its id.
            names = [*found.names, found.config.id]
            try:
                self._catalog.add(found.config, size, names, unpacked, loaded=True)
                return
            except LayerMissing:
                if attempt == _ATTEMPTS - 1:
                    raise

    async def pull(self, reference: str, credentials: Credentials | None = None) -> Image:
        """Raises InvalidReference, ImageNotFound, ImageDamaged, RegistryFailure."""
        name = self._parse(reference)
        key = f"{name} {credentials!r}"
        shared = self._pulls.get(key)
        if shared is None:
            task = asyncio.create_task(self._pull(name, credentials))
            shared = self._pulls[key] = _Shared(task, partial(self._forget_pull, key))
        return await shared.wait()

    def _forget_pull(self, key: str, shared: _Shared) -> None:
        if self._pulls.get(key) is shared:
            del self._pulls[key]

    async def _pull(self, name: Reference, credentials: Credentials | None) -> Image:
        local = self.local if self.local and self.local.domain == name.domain else None
        try:
            async with self._pulling:
                if local is not None and not isinstance(local, Elsewhere):
                    return await local.image(name)
                for attempt in range(_ATTEMPTS):
                    with self._catalog.workspace() as space:
                        try:
                            return await self._pull_into(space, name, credentials)
                        except LayerMissing:
                            if attempt == _ATTEMPTS - 1:
                                raise
        except ImageNotFound as error:
            raise ImageNotFound(f'failed to pull and unpack image "{name}": {error}') from error
        except OSError as error:
            text = f'failed to pull and unpack image "{name}": {error.strerror or error}'
            raise RuntimeFailure(text) from error
        raise AssertionError("unreachable")

    async def _pull_into(
        self, space: Path, name: Reference, credentials: Credentials | None
    ) -> Image:
        # The HTTP client takes long to import, and most images are there already.
        from .registry import Registry

        registry = Registry(self._insecure, self._settings)
        known = self.local if self.local and self.local.domain == name.domain else None
        found = known.endpoints if isinstance(known, Elsewhere) else None
        async with registry.session(name, credentials, found) as session:
            digest, parsed = await session.manifest(machine())
            config = await session.config(parsed.config)
            wanted = {
                diff_id: blob
                for blob, diff_id in session.pairs(parsed.layers, config.diff_ids)
                if not self._catalog.layer(diff_id).is_dir()
            }
            fetched = {blob.digest for blob in wanted.values()}
            try:
                await _all_or_none(
                    [
                        self._fetch(session, blob, space / diff_id.removeprefix("sha256:"), diff_id)
                        for diff_id, blob in wanted.items()
                    ]
                )
            except ImageDamaged:
                # Nothing stays of what is refused; what a cut line left is gone on with.
                self._partials.forget(fetched)
                raise
            unpacked = {each: space / each.removeprefix("sha256:") for each in wanted}
        size = parsed.config.size + sum(blob.size for blob in parsed.layers)
        names = [name.with_digest(digest)]
        if name.tag:
            names.append(name.tagged)
        await asyncio.to_thread(self._catalog.add, config, size, names, unpacked)
        self._partials.forget(fetched)
        return self._catalog.images()[config.id]

    async def unpack(
        self, name: Reference, parsed: Manifest, config: Config, blob: Callable[[str], Path]
    ) -> Image:
        """Make an image whose blobs are here, `blob` says where, checked against their digests.
        Raises ImageDamaged, FileNotFoundError."""
        if len(parsed.layers) != len(config.diff_ids):
            text = f"{name}: {len(parsed.layers)} layers, but {len(config.diff_ids)} diff ids"
            raise ImageDamaged(text)
        size = parsed.config.size + sum(layer.size for layer in parsed.layers)
        names = [name.with_digest(name.digest), *([name.tagged] if name.tag else ())]
        for attempt in range(_ATTEMPTS):
            with self._catalog.workspace() as space:
                unpacked = {
                    diff_id: (space / diff_id.removeprefix("sha256:"), blob(layer.digest))
                    for layer, diff_id in zip(parsed.layers, config.diff_ids, strict=True)
                    if not self._catalog.layer(diff_id).is_dir()
                }
                await _all_or_none(
                    [
                        self._unpack(file, target, diff_id)
                        for diff_id, (target, file) in unpacked.items()
                    ]
                )
                made = {diff_id: target for diff_id, (target, _) in unpacked.items()}
                try:
                    await asyncio.to_thread(self._catalog.add, config, size, names, made)
                    break
                except LayerMissing:
                    if attempt == _ATTEMPTS - 1:
                        raise
        return self._catalog.images()[config.id]

    async def _unpack(self, file: Path, target: Path, diff_id: str) -> None:
        async with self._unpackers:
            await asyncio.to_thread(_unpack_file, file, target, diff_id)

    async def _fetch(self, session: Session, blob: Blob, target: Path, diff_id: str) -> None:
        """Download a layer and unpack it to `target`."""
        async with self._partials.claim(blob.digest, target.with_suffix(".blob")) as file:
            await session.download(blob, file)
            await self._unpack(file, target, diff_id)

    async def remove(self, reference: str) -> None:
        """Forget a name; by id, or with its last tag, the image goes. Layers go with their last
        image. Raises ImageNotFound. Not for images that containers still use."""
        image = self.find(reference)
        if image is None:
            raise ImageNotFound(f'image "{reference}" not found')
        references = self._catalog.references()
        everything = [name for name, found in references.items() if found == image.id]
        names = everything
        if not is_id(reference):
            parsed = self._parse(reference)
            tagged = [name for name in image.tags if name != parsed.tagged]
            if parsed.tagged in image.tags and tagged:
                names = [parsed.tagged]
        await asyncio.to_thread(self._catalog.remove, names, image.id)


async def _all_or_none(parts: Sequence[Coroutine[None, None, None]]) -> None:
    """Run them together; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _unpack_file(file: Path, target: Path, diff_id: str) -> None:
    target.mkdir(mode=0o755)
    with open(file, "rb") as source:
        unpack(source, target, diff_id=diff_id)


class _Shared:
    """A pull that several wait for; it ends early when none does any more. `over` is called when
    nobody may join it any more: one that is being ended would end whoever does."""

    def __init__(self, task: asyncio.Task[Image], over: Callable[[_Shared], None]) -> None:
        self._task = task
        self._over = over
        self._waiting = 0
        task.add_done_callback(lambda _: over(self))

    async def wait(self) -> Image:
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                self._over(self)
                self._task.cancel()
