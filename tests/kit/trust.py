"""How large a proof is this time: CI's size, or one slice of `make trust` (tools/trust.py)."""

from __future__ import annotations

import os

SLICE = int(os.environ.get("SAMPAN_TRUST_SLICE", "0"))
"""Which part of a long run this is; its seeds follow from it, so no two slices are the same."""


def size(in_ci: int) -> int:
    """How much to do: `in_ci`, unless a slice asks for more."""
    return int(os.environ.get("SAMPAN_TRUST_SIZE", str(in_ci)))
