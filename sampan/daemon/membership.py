"""Of which cluster a node process is a part, and how it comes to be.

A node that joined asks at each start where it stands (`joining.settle`), in a process that ends
with the answer: what that loads, X.509 above all, is a fifth of a node's memory and is not needed
again for months, when its certificates are due.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from sampan.aio.clock import Clock

from . import config
from .child import Child, Refused

log = logging.getLogger("sampan.node")

PAIRS = ("node-client", "node")
"""Names of the certificates of a node that joined: one for each purpose."""
DUE = "due"
"""Beside them: when the first of them is to be renewed, in seconds since the epoch."""
LONGEST_S = 3600.0
"""A machine that sleeps stops timers, but not the calendar."""


def has_joined(child: Child) -> bool:
    """Whether this is a node of a control plane elsewhere, or beside the first node."""
    return bool(child.options.server) or child.paths.order.exists()


def settle_apart(child: Child) -> config.ClusterConfig:
    """The cluster, as it was agreed. Ends this process when that cannot be, as the other did."""
    pid = os.fork()
    if pid == 0:
        os._exit(_settle(child))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    cluster = config.read(child.paths) if code == 0 else None
    if cluster is None:
        sys.exit(code or 1)
    return cluster


def _settle(child: Child) -> int:
    """In a process of its own, which says by itself why it fails."""
    from .joining import settle

    try:
        settle(child)
    except Refused as error:
        return child.refuse(error)
    except Exception as error:
        child.say(error=str(error))
        print(error, file=sys.stderr)
        return 1
    return 0


def membership(child: Child) -> tuple[config.ClusterConfig, str]:
    """The cluster this node belongs to, and the name of its client certificate's files: the first
    node has one certificate for both purposes."""
    cluster = config.read(child.paths)
    if cluster is None:
        raise Refused(f"there is no cluster in {child.paths.data}; start it with 'sampan up'")
    return cluster, PAIRS[0] if has_joined(child) else "node"


async def until_due(pki: Path, clock: Clock) -> None:
    """Sleep until a certificate is due."""
    try:
        due_s = float((pki / DUE).read_text())
    except (OSError, ValueError) as error:
        log.warning("when certificates are due is not known: %s", error)
        return
    while (left_s := due_s - clock.now()) > 0:
        await clock.sleep(min(left_s, LONGEST_S))
