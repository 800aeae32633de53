"""User namespaces of pods (KEP-127): which of the node's user ids stand for a pod's own.

A pod with `hostUsers: false` gets `COUNT` ids that no other pod has; they are written into its
directory and are free again when that is gone. At most `SLOTS` such pods at once on each of a
machine's nodes, which have ids of their own: they share its kernel, and ask nobody.
"""

from __future__ import annotations

from pathlib import Path

COUNT = 65536
"""As many as there are in upstream's default (userNamespaces.idsPerPod), from 0 on in the pod."""
SLOTS = 1000
"""Times the 64 nodes that a machine may have: less than there are ids."""
FILE = "userns"


def first_id(pods: Path, uid: str, number: int = 1) -> int:
    """The first of the pod's ids on the machine, of whose nodes this one has the `number`;
    idempotent. Raises OSError."""
    path = pods / uid / FILE
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        pass
    taken = set()
    for other in pods.glob(f"*/{FILE}"):
        try:
            taken.add(int(other.read_text()))
        except (OSError, ValueError):
            continue
    for slot in range((number - 1) * SLOTS + 1, number * SLOTS + 1):
        if slot * COUNT not in taken:
            path.write_text(str(slot * COUNT))
            return slot * COUNT
    raise OSError(f"no more than {SLOTS} pods with user namespaces")
