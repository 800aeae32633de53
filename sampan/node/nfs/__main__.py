"""`python -m sampan.node.nfs FD HOME HOST PATH OPTIONS`: serve a share to the FUSE descriptor FD.

Says `ready` when the server has answered, or why it has not, and starts when it reads a line: by
then the descriptor is mounted. It steps out of the node's mount namespace (into HOME, a descriptor,
or -1), so that it keeps nobody's mounts alive, and ends when its own mount does.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .library import Server


def main() -> int:
    fd, home, host, path, options = sys.argv[1:]
    try:
        given = dict(item.partition("=")[::2] for item in options.split(","))
        server = _connect(host, path, given)
        import mfusepy

        from .files import Share
    except (OSError, ImportError, ValueError) as error:
        print(getattr(error, "strerror", None) or error, flush=True)
        return 1
    if int(home) >= 0:
        _step_out(int(home))
    print("ready", flush=True)
    if not sys.stdin.readline():
        return 1
    for stream in (0, 1):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    mfusepy.FUSE(
        Share(server), f"/dev/fd/{fd}", foreground=True, nothreads=True,
        attr_timeout=1.0, entry_timeout=1.0,
    )  # fmt: skip
    return 0


def _connect(host: str, path: str, options: dict[str, str]) -> Server:
    """By NFSv3 if the server speaks it, whatever is asked for: libnfs 4 has one open owner for all
    of NFSv4, so that two who have a file open would close it for each other. Raises OSError."""
    from .library import Server

    try:
        return Server(host, path, options | {"vers": "3"})
    except OSError:
        if options.get("vers", "4").startswith("3"):
            raise
    return Server(host, path, options | {"vers": "4"})


def _step_out(home: int) -> None:
    from sampan.linux.namespaces import CLONE_FS, CLONE_NEWNS, setns, unshare

    unshare(CLONE_FS)
    setns(home, CLONE_NEWNS)
    os.close(home)
    os.chdir("/")


if __name__ == "__main__":
    sys.exit(main())
