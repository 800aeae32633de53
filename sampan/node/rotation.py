"""Container logs are cut at `SIZE_MAX` bytes; the last `FILES_MAX` files are kept, as kubelet does.

No task of its own: the agent looks whenever it renews its Lease. A look is one stat per running
container. The full file is renamed and the runtime opens a new one under the old name; a reader
that follows the log goes on with it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from sampan.runtime.interface import Container, RuntimeFailure, State

log = logging.getLogger("sampan.node.rotation")

# kubelet's containerLogMaxSize and containerLogMaxFiles.
SIZE_MAX = 10 << 20
FILES_MAX = 5


def rotate(containers: Iterable[Container], reopen: Callable[[str], None], now: float) -> int:
    """Rotate what has grown too long; returns how many."""
    done = 0
    for container in containers:
        if container.state != State.RUNNING:
            continue
        path = container.log_path
        try:
            if os.stat(path).st_size < SIZE_MAX:
                continue
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
            path.rename(path.with_name(f"{path.name}.{stamp}"))
            reopen(container.id)
            _prune(path)
        except (OSError, RuntimeFailure) as error:
            log.warning("log of container %s: %s", container.id[:12], error)
        else:
            done += 1
    return done


def rotated(path: Path) -> list[Path]:
    """The former files of a log, oldest first."""
    return sorted(path.parent.glob(f"{path.name}.*"))


def _prune(path: Path) -> None:
    for old in rotated(path)[: -(FILES_MAX - 1)]:
        old.unlink(missing_ok=True)
