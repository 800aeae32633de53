"""subPath of a volume mount: a part of a volume, and never anything outside it.

The path is opened with openat2(RESOLVE_BENEATH) and bound through its descriptor, so that no
symbolic link in the volume, however it is swapped, leads out (CVE-2017-1002101, CVE-2021-25741);
one that would is an error, as upstream has it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from sampan.linux.openat2 import open_within

from .kernel import Kernel

DIRECTORY = os.O_PATH | os.O_DIRECTORY


def bind_sub_path(volume: Path, sub_path: str, target: Path, kernel: Kernel) -> Path:
    """Bind `volume`/`sub_path` (made if missing) to `target`. Raises OSError."""
    root = os.open(volume, DIRECTORY | os.O_CLOEXEC)
    try:
        part = _open(root, sub_path)
    except OSError as error:
        if error.errno == errno.EXDEV:
            text = f'subpath "{sub_path}" not within volume path "{volume}"'
            raise OSError(text) from error
        raise
    finally:
        os.close(root)
    try:
        source = Path(f"/proc/self/fd/{part}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.touch(exist_ok=True)
        kernel.bind(source, target)
    finally:
        os.close(part)
    return target


def _open(root: int, sub_path: str) -> int:
    """A descriptor of the path inside the root; missing directories are made on the way, with the
    volume's own mode (SafeMakeDir), so that whoever may write to the volume may write there."""
    try:
        return open_within(root, sub_path, os.O_PATH)
    except FileNotFoundError:
        pass
    done, mode = "", stat.S_IMODE(os.fstat(root).st_mode)
    for part in (item for item in sub_path.split("/") if item not in ("", ".")):
        parent = open_within(root, done or ".", DIRECTORY)
        try:
            if part != "..":
                _make(parent, part, mode)
        except FileExistsError:
            pass
        finally:
            os.close(parent)
        done = f"{done}/{part}" if done else part
    return open_within(root, sub_path, os.O_PATH)


def _make(parent: int, name: str, mode: int) -> None:
    """Raises OSError, FileExistsError among them."""
    os.mkdir(name, 0o700, dir_fd=parent)
    made = os.open(name, DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        # Past the umask, and past a link that has taken its place.
        os.chmod(f"/proc/self/fd/{made}", mode)
    finally:
        os.close(made)
