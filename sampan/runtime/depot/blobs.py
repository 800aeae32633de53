"""Content by its digest, and content that is still coming.

    ROOT/blobs/<hex>     whole, and what its digest says
    ROOT/uploads/<id>    one upload; what a crash leaves is removed at the next start

Bounds: `UPLOADS_MAX` uploads at once, each of at most `BLOB_BYTES_MAX`, forgotten after
`UPLOAD_IDLE_S` without a byte; nothing is taken when less than `FREE_SHARE_MIN` of the disk is
free. No name that a client chose becomes part of a path.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from ..interface import RuntimeFailure

# As the bound of what is pulled (registry.py).
BLOB_BYTES_MAX = 32 * 1024**3
UPLOADS_MAX = 64
UPLOAD_IDLE_S = 3600.0
# kubelet calls a disk full at a tenth (nodefs.available<10%): pushes stop before pods have to go.
FREE_SHARE_MIN = 0.12
# Hashing and writing are handed to a thread in pieces of this size.
_PIECE_BYTES = 1024 * 1024


class Rejected(RuntimeFailure):
    """A request that cannot be done: HTTP status, code of the distribution specification, text."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


class Upload(Struct):
    """One blob while it comes."""

    id: str
    repository: str
    path: Path
    size: int = 0
    hash: Any = field(default_factory=hashlib.sha256)
    touched: float = field(default_factory=time.monotonic)
    busy: bool = False
    """A request is writing to it."""

    @property
    def digest(self) -> str:
        return f"sha256:{self.hash.hexdigest()}"


class Blobs:
    """The files of one depot."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._drafts = root / "uploads"
        self._uploads: dict[str, Upload] = {}

    def open(self) -> None:
        shutil.rmtree(self._drafts, ignore_errors=True)
        for path in (self._blobs, self._drafts):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """`digest` has to be well-formed (reference.is_digest)."""
        return self._blobs / digest.removeprefix("sha256:")

    def size(self, digest: str) -> int | None:
        """None when it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def write(self, digest: str, data: bytes) -> None:
        """A small one whose digest has been computed: whole and durable, or not at all."""
        draft = self._drafts / secrets.token_hex(16)
        draft.write_bytes(data)
        _keep(draft, self.path(digest))

    def begin(self, repository: str) -> Upload:
        """Raises Rejected when there are too many, or the disk is too full."""
        now = time.monotonic()
        for upload in [one for one in self._uploads.values() if not one.busy]:
            if now - upload.touched > UPLOAD_IDLE_S:
                self.drop(upload)
        if len(self._uploads) >= UPLOADS_MAX:
            text = f"more than {UPLOADS_MAX} uploads at once"
            raise Rejected(429, "TOOMANYREQUESTS", text)
        self._check_disk()
        # The id is the right to go on with the upload: it is not to be guessed.
        upload_id = secrets.token_urlsafe(24)
        upload = Upload(upload_id, repository, self._drafts / secrets.token_hex(16))
        upload.path.touch(mode=0o600)
        self._uploads[upload_id] = upload
        return upload

    def upload(self, repository: str, upload_id: str) -> Upload:
        """Raises Rejected when there is none."""
        found = self._uploads.get(upload_id)
        if found is None or found.repository != repository:
            raise Rejected(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        return found

    async def append(self, upload: Upload, chunks: AsyncIterator[bytes]) -> None:
        """Raises Rejected, and whatever the chunks raise; what came before that stays."""
        if upload.busy:
            raise Rejected(409, "BLOB_UPLOAD_INVALID", "another request writes to this upload")
        upload.busy = True
        try:
            with open(upload.path, "ab", buffering=0) as file:  # noqa: ASYNC230 - only opened
                # What a write that failed has left is not in the digest.
                file.truncate(upload.size)
                pending = bytearray()
                async for chunk in chunks:
                    pending += chunk
                    if len(pending) >= _PIECE_BYTES:
                        await asyncio.to_thread(self._append, upload, file, bytes(pending))
                        pending.clear()
                await asyncio.to_thread(self._append, upload, file, bytes(pending))
        finally:
            upload.busy = False
            upload.touched = time.monotonic()

    def _append(self, upload: Upload, file: Any, data: bytes) -> None:
        if upload.size + len(data) > BLOB_BYTES_MAX:
            raise Rejected(413, "SIZE_INVALID", f"a blob has at most {BLOB_BYTES_MAX} bytes")
        self._check_disk()
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        upload.hash.update(data)
        upload.size += len(data)

    def finish(self, upload: Upload, digest: str) -> None:
        """Raises Rejected when it is another content; then the upload is over too. Blocks."""
        try:
            if upload.digest != digest:
                text = f"provided digest did not match uploaded content: it is {upload.digest}"
                raise Rejected(400, "DIGEST_INVALID", text)
            _keep(upload.path, self.path(digest))
        finally:
            self.drop(upload)

    def drop(self, upload: Upload) -> None:
        self._uploads.pop(upload.id, None)
        upload.path.unlink(missing_ok=True)

    def retain(self, digests: Iterable[str]) -> int:
        """Remove all other blobs; how many bytes they had. Blocks."""
        kept = {digest.removeprefix("sha256:") for digest in digests}
        freed = 0
        for path in self._blobs.iterdir():
            if path.name not in kept:
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
        return freed

    def _check_disk(self) -> None:
        stat = os.statvfs(self._drafts)
        if stat.f_bavail < FREE_SHARE_MIN * stat.f_blocks:
            raise Rejected(507, "DENIED", "the node's disk is too full to take more")


def _keep(draft: Path, target: Path) -> None:
    """A blob that a power cut leaves half empty would be believed whole ever after."""
    fd = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(draft, target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
