"""Space of a directory tree, bounded by the file system's project quota (XFS; ext4 with prjquota).

A tree's files carry a project's number, which what is made in it inherits; the file system counts
and bounds what they take together, and statfs(2) in the tree shows the bound.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

from .libc import check, libc

# <linux/fs.h>: struct fsxattr is five numbers and eight bytes of padding.
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
_ATTRIBUTES = struct.Struct("=IIIII8x")
PROJECT_INHERIT = 0x200

# quotactl_fd(2), Linux 5.14; the same number on every architecture.
_NR_QUOTACTL_FD = 443
PROJECTS = 2
_SET_LIMITS = ord("X") << 8 | 4
# <linux/dqblk_xfs.h>: struct fs_disk_quota. Blocks are of 512 bytes whatever the file system's.
_QUOTA = struct.Struct("=bbHIQQQQQQiiHHi QQ Q ihH8x")
_PROJECT_QUOTA, _HARD_BLOCKS = 2, 1 << 3
BLOCK_BYTES = 512

UNSUPPORTED = {
    errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ESRCH, errno.EPERM,
}  # fmt: skip
"""What a file system answers that keeps no such quota."""

_syscall = libc.syscall


def give_project(directory: int, project: int) -> None:
    """Count the directory (a descriptor), and all that will be made in it, as the project's.
    Raises OSError."""
    state = bytearray(_ATTRIBUTES.size)
    fcntl.ioctl(directory, FS_IOC_FSGETXATTR, state)
    flags, extent, count, _, copied = _ATTRIBUTES.unpack(state)
    wanted = _ATTRIBUTES.pack(flags | PROJECT_INHERIT, extent, count, project, copied)
    fcntl.ioctl(directory, FS_IOC_FSSETXATTR, wanted)


def limit_project(directory: int, project: int, size_bytes: int) -> None:
    """Let the project have so much on the directory's file system; 0: any. Raises OSError."""
    blocks = -(-size_bytes // BLOCK_BYTES)
    quota = _QUOTA.pack(
        1, _PROJECT_QUOTA, _HARD_BLOCKS, project, blocks, *(0,) * 5, *(0,) * 2, *(0,) * 3,
        *(0,) * 2, 0, 0, 0, 0,
    )  # fmt: skip
    result = _syscall(
        ctypes.c_long(_NR_QUOTACTL_FD),
        ctypes.c_int(directory),
        ctypes.c_uint(_SET_LIMITS << 8 | PROJECTS),
        ctypes.c_int(project),
        ctypes.c_char_p(quota),
    )
    check(int(result), os.readlink(f"/proc/self/fd/{directory}"))
