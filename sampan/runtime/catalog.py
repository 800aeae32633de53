"""Which images are present, on disk: safe for several processes at once.

    ROOT/layers/<hex of diff id>/     one unpacked layer, renamed into place when whole
    ROOT/images/<hex of id>.json      what an image is made of; never changes
    ROOT/references.json              names and digests -> image id; replaced as a whole
    ROOT/drafts/<random>/             what is being downloaded or unpacked, locked by its maker
    ROOT/lock                         held while references or the set of layers change

Reading takes no lock: it looks at the references file's identity and parses it only when that
has changed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
from msgspec import Struct, structs

from .interface import Image, ImageDamaged, ImageNotFound
from .manifest import Config


class Stored(Struct, frozen=True):
    """One image file."""

    config: Config
    size_bytes: int
    loaded: bool = False
    """From a file, not from a registry."""
    identity: tuple[int, int] = (0, 0)
    """Tells whether its file is still the one that was read."""


class Seen(Struct, frozen=True):
    """The folder as it was when its references were last read."""

    identity: tuple[int, int, int] | None = None
    images: Mapping[str, Image] = {}
    references: Mapping[str, str] = {}
    stored: Mapping[str, Stored] = {}


class LayerMissing(Exception):
    """A layer went away between its check and the image's registration; unpack it again."""


class Catalog:
    """The image folder of one node."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen = Seen()

    def open(self) -> None:
        """Make the folders, and remove what crashed makers left."""
        for path in (self._layers, self._image_files, self._drafts):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._drafts.iterdir():
            with _try_lock(path) as free:
                if free:
                    shutil.rmtree(path, ignore_errors=True)
        # A file that is damaged is told of when it is asked for.
        with self.workspace() as trash, suppress(ImageDamaged, ValueError):
            self._settle(trash)

    def _settle(self, trash: Path) -> None:
        """Remove what a maker or a remover that was killed between two steps left: drafts, images
        without a name, layers without an image."""
        with self._locked():
            named = set(self._read_references().values())
            for path in (*self.root.glob("*.new"), *self._image_files.iterdir()):
                if path.suffix != ".json" or f"sha256:{path.stem}" not in named:
                    path.unlink(missing_ok=True)
            kept = {
                self.layer(diff_id).name
                for path in self._image_files.iterdir()
                for diff_id in _read_stored(path).config.diff_ids
            }
            for path in self._layers.iterdir():
                if path.name not in kept:
                    os.rename(path, trash / path.name)

    @property
    def _layers(self) -> Path:
        return self.root / "layers"

    @property
    def _image_files(self) -> Path:
        return self.root / "images"

    @property
    def _drafts(self) -> Path:
        return self.root / "drafts"

    def layer(self, diff_id: str) -> Path:
        return self._layers / diff_id.removeprefix("sha256:")

    def images(self) -> Mapping[str, Image]:
        """By id."""
        return self._refresh().images

    def references(self) -> Mapping[str, str]:
        """From full names, with tag or digest, to ids."""
        return self._refresh().references

    def layers(self, image_id: str) -> Sequence[Path]:
        """The directories of an image, uppermost first. Raises ImageNotFound."""
        stored = self._refresh().stored.get(image_id)
        if stored is None:
            raise ImageNotFound(f"image {image_id} is not present")
        return [self.layer(diff_id) for diff_id in reversed(stored.config.diff_ids)]

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder of one's own beside the layers; removed at the end with what is in it."""
        path, fd = self._draft()
        try:
            yield path
        finally:
            os.close(fd)
            shutil.rmtree(path, ignore_errors=True)

    def _draft(self) -> tuple[Path, int]:
        """A new folder, and the lock on it. Until it is locked, another process that opens the
        catalog may take it for a crashed maker's, and then it is another one."""
        while True:
            path = self._drafts / secrets.token_hex(8)
            path.mkdir(mode=0o700)
            with suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_SH)
                    os.stat(path)
                except BaseException:
                    os.close(fd)
                    raise
                return path, fd

    def add(
        self,
        config: Config,
        size_bytes: int,
        names: Sequence[str],
        unpacked: Mapping[str, Path],
        *,
        loaded: bool = False,
    ) -> None:
        """Register an image under full names (with tag or digest).

        `unpacked` are the layers made for it, by diff id; those that are there already need not
        be in it. Raises LayerMissing when one is in neither. All or nothing; nothing is written of
        what is known already.
        """
        self._flush(unpacked)
        with self._locked() as seen:
            for diff_id in config.diff_ids:
                if self.layer(diff_id).is_dir():
                    continue
                if diff_id not in unpacked:
                    raise LayerMissing(diff_id)
                os.rename(unpacked[diff_id], self.layer(diff_id))
            old = seen.stored.get(config.id)
            changed = old is None or old.loaded < loaded or old.size_bytes != size_bytes
            if changed:
                data = {
                    "config": structs.asdict(config),
                    "size_bytes": size_bytes,
                    "loaded": loaded or (old is not None and old.loaded),
                }
                self._replace(self._image_file(config.id), data)
            references = self._read_references()
            # Also when only the image's file changed: by this file others see that it did.
            if changed or any(references.get(name) != config.id for name in names):
                references.update(dict.fromkeys(names, config.id))
                self._write_references(references)

    def _flush(self, unpacked: Mapping[str, Path]) -> None:
        """A layer that a power cut leaves half empty would be believed whole ever after."""
        if not unpacked:
            return
        fd = os.open(self._layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)

    def remove(self, names: Sequence[str], image_id: str) -> None:
        """Forget names; an image without names goes, with the layers no other image has."""
        with self._locked():
            references = self._read_references()
            for name in names:
                references.pop(name, None)
            gone: list[Path] = []
            with self.workspace() as trash:
                if image_id not in references.values():
                    gone = self._take_out(image_id, trash)
                self._write_references(references)
                for path in gone:
                    shutil.rmtree(path, ignore_errors=True)

    def _take_out(self, image_id: str, trash: Path) -> list[Path]:
        self._image_file(image_id).unlink(missing_ok=True)
        kept = {
            diff_id
            for path in self._image_files.glob("*.json")
            for diff_id in _read_stored(path).config.diff_ids
        }
        moved: list[Path] = []
        stored = self._seen.stored.get(image_id)
        for diff_id in stored.config.diff_ids if stored is not None else ():
            path = self.layer(diff_id)
            if diff_id not in kept and path.is_dir():
                moved.append(trash / path.name)
                os.rename(path, moved[-1])
        return moved

    def _image_file(self, image_id: str) -> Path:
        return self._image_files / f"{image_id.removeprefix('sha256:')}.json"

    @contextmanager
    def _locked(self) -> Iterator[Seen]:
        fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield self._refresh()
        finally:
            os.close(fd)

    @property
    def _references_file(self) -> Path:
        return self.root / "references.json"

    def _read_references(self) -> dict[str, str]:
        try:
            references: dict[str, str] = orjson.loads(self._references_file.read_bytes())
        except FileNotFoundError:
            return {}
        except orjson.JSONDecodeError as error:
            raise ImageDamaged(f"{self._references_file} is damaged: {error}") from error
        return references

    def _write_references(self, references: Mapping[str, str]) -> None:
        self._replace(self._references_file, references)

    def _replace(self, path: Path, value: object) -> None:
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
        with open(draft, "wb") as file:
            file.write(orjson.dumps(value))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)

    def _refresh(self) -> Seen:
        """Called in threads too: what is seen is replaced as a whole."""
        seen = self._seen
        try:
            info = os.stat(self._references_file)
        except FileNotFoundError:
            self._seen = Seen()
            return self._seen
        identity = (info.st_ino, info.st_mtime_ns, info.st_size)
        if identity == seen.identity:
            return seen
        references = self._read_references()
        present: dict[str, Stored] = {}
        for image_id in set(references.values()):
            path = self._image_file(image_id)
            stored = seen.stored.get(image_id)
            try:
                if stored is None or stored.identity != _identity(path):
                    stored = _read_stored(path)
                present[image_id] = stored
            except FileNotFoundError:
                # Removed by another process after the references were read.
                continue
        found = {name: image for name, image in references.items() if image in present}
        self._seen = Seen(identity, _images(present, found), found, present)
        return self._seen


def _images(stored: Mapping[str, Stored], references: Mapping[str, str]) -> Mapping[str, Image]:
    tags: dict[str, list[str]] = {image_id: [] for image_id in stored}
    digests: dict[str, list[str]] = {image_id: [] for image_id in stored}
    for name in sorted(references):
        if name.startswith("sha256:"):
            continue
        (digests if "@" in name else tags)[references[name]].append(name)
    return {
        image_id: one.config.image(
            tags[image_id],
            digests[image_id],
            one.size_bytes,
            pinned=one.loaded and bool(tags[image_id]),
            added_at=one.identity[1] / 1e9,
        )
        for image_id, one in stored.items()
    }


def _read_stored(path: Path) -> Stored:
    identity = _identity(path)
    data = orjson.loads(path.read_bytes())
    config = Config(**data["config"])
    return Stored(config, data["size_bytes"], data.get("loaded", False), identity)


def _identity(path: Path) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_ino, info.st_mtime_ns


@contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    """Whether nobody holds the folder."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(fd)


def syncfs(fd: int) -> None:
    """syncfs(2): everything of the file system behind the descriptor reaches the disk."""
    from ..linux.libc import check, libc

    check(libc.syncfs(fd))
