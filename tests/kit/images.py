"""An image store of one image: busybox, laid out in a directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from sampan.runtime.interface import Credentials, Image, ImageNotFound
from tests.kit.runtime import BUSYBOX

COMMANDS = (
    "sh", "sleep", "cat", "echo", "env", "id", "touch", "ls", "httpd", "nc", "true", "false",
    "kill", "mkdir", "seq", "trap", "wget", "hostname",
)  # fmt: skip


class BusyboxImages:
    """`Images`, and what the runtime needs of them; nothing can be pulled."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "busybox"
        for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", self._root / "bin/busybox")
        for name in COMMANDS:
            link = self._root / "bin" / name
            if not link.is_symlink():
                os.symlink("busybox", link)
        (self._root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (self._root / "etc/group").write_text("root:x:0:\n")

    def layers(self, image_id: str) -> Sequence[Path]:
        if image_id != BUSYBOX.id:
            raise ImageNotFound(image_id)
        return (self._root,)

    def find(self, reference: str) -> Image | None:
        return BUSYBOX if reference in ("busybox", BUSYBOX.id, *BUSYBOX.tags) else None

    def list(self) -> Sequence[Image]:
        return (BUSYBOX,)

    async def load(self, archive: Path) -> Sequence[Image]:
        raise NotImplementedError

    async def pull(self, reference: str, credentials: Credentials | None = None) -> Image:
        raise ImageNotFound(f"{reference}: not found")

    async def remove(self, reference: str) -> None: ...
