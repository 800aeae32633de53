"""No image takes the last of the disk, whatever it says it is.

kubelet evicts pods when a tenth of the disk is left, and on a full one the API server's store could
not write: what comes from a registry stops before that.
"""

from __future__ import annotations

import errno
import os

FREE_SHARE_MIN = 0.05
LOOK_BYTES = 64 * 1024**2
"""How much is written between two looks at the disk."""


class Room:
    """For one writer."""

    def __init__(self, fd: int) -> None:
        """`fd` is of anything on the disk."""
        self._fd = fd
        self._unlooked = LOOK_BYTES

    def take(self, size: int) -> None:
        """Before so much is written. Raises OSError (ENOSPC)."""
        self._unlooked += size
        if self._unlooked >= LOOK_BYTES:
            self._unlooked = 0
            stat = os.fstatvfs(self._fd)
            if stat.f_bavail < FREE_SHARE_MIN * stat.f_blocks:
                raise OSError(errno.ENOSPC, "too little of the node's disk is left for an image")


def is_full(error: BaseException) -> bool:
    """The disk is, and trying again or elsewhere is of no use."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
