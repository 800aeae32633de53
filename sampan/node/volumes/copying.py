"""A copy of a directory tree whose owner may be changing it: a volume's clone.

Every entry is opened through the descriptor of its own directory, and no link is followed: what a
pod swaps for a link meanwhile is copied as the link. Files share their blocks with what they are
copied from where the file system can (FICLONE: XFS, btrfs); else the kernel copies them. Owners,
modes, times, extended attributes, hard links and holes stay; sockets and devices do not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

FICLONE = 0x40049409
NO_SHARING = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS}
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CHUNK_BYTES = 1 << 30


def copy_tree(source: Path, target: Path) -> None:
    """Fill `target`, an empty directory. Synchronous, and slow for much that cannot be shared.
    Raises OSError."""
    links: dict[int, str] = {}
    root = os.open(target, FOLDER)
    try:
        for path, folders, files, at in os.fwalk(source, follow_symlinks=False):
            below = os.path.relpath(path, source)
            into = os.open(below, FOLDER, dir_fd=root)
            try:
                for name in folders:
                    _copy_folder(name, at, into)
                for name in files:
                    _copy_entry(name, (at, into), root, (links, below))
            finally:
                os.close(into)
        # From below, since what is made in a directory changes its time.
        for path, _, _, at in os.fwalk(source, topdown=False, follow_symlinks=False):
            into = os.open(os.path.relpath(path, source), FOLDER, dir_fd=root)
            try:
                _dress(os.fstat(at), at, into)
            finally:
                os.close(into)
    finally:
        os.close(root)


def copy_file(source: Path, target: Path) -> None:
    """Fill `target`, an empty file, which no pod has a name for. Raises OSError."""
    with source.open("rb") as opened, target.open("r+b") as made:
        _fill(opened.fileno(), made.fileno(), os.fstat(opened.fileno()).st_size)


def _copy_folder(name: str, at: int, into: int) -> None:
    """Directories, and links to them, which os.fwalk counts among them."""
    found = os.stat(name, dir_fd=at, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=at), name, dir_fd=into)
    elif stat.S_ISDIR(found.st_mode):
        os.mkdir(name, 0o700, dir_fd=into)


def _copy_entry(
    name: str, folders: tuple[int, int], root: int, known: tuple[dict[int, str], str]
) -> None:
    at, into = folders
    links, below = known
    with suppress(FileNotFoundError):
        # Gone since the directory was read: so it is no part of the copy.
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=at), name, dir_fd=into)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=into, follow_symlinks=False)
        elif stat.S_ISFIFO(found.st_mode):
            os.mkfifo(name, stat.S_IMODE(found.st_mode), dir_fd=into)
        elif stat.S_ISREG(found.st_mode):
            if found.st_nlink > 1 and found.st_ino in links:
                os.link(links[found.st_ino], name, src_dir_fd=root, dst_dir_fd=into)
                return
            _copy_file(name, at, into)
            links[found.st_ino] = os.path.join(below, name)


def _copy_file(name: str, at: int, into: int) -> None:
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, flags, 0o600, dir_fd=into)
        try:
            _fill(opened, made, found.st_size)
            _dress(found, opened, made)
        finally:
            os.close(made)
    finally:
        os.close(opened)


def _fill(opened: int, made: int, size: int) -> None:
    """Share the blocks, or copy them."""
    try:
        fcntl.ioctl(made, FICLONE, opened)
    except OSError as error:
        if error.errno not in NO_SHARING:
            raise
        _copy_data(opened, made, size)


def _copy_data(opened: int, made: int, size: int) -> None:
    """Holes are left out."""
    at = 0
    os.ftruncate(made, size)
    while at < size:
        try:
            begin = os.lseek(opened, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(opened, begin, os.SEEK_HOLE)
        while begin < end:
            count = min(end - begin, CHUNK_BYTES)
            done = os.copy_file_range(opened, made, count, begin, begin)
            if not done:
                return
            begin += done
        at = end


def _dress(found: os.stat_result, opened: int, made: int) -> None:
    """Give it owner, mode, attributes and times."""
    os.fchown(made, found.st_uid, found.st_gid)
    os.fchmod(made, stat.S_IMODE(found.st_mode))
    for key in os.listxattr(opened):
        with suppress(OSError):
            os.setxattr(made, key, os.getxattr(opened, key))
    os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))
