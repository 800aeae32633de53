"""The three patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch.

All are pure: they never change what they are given. The result shares with the original what the
patch does not touch, and nothing with the patch.
"""

from __future__ import annotations

from typing import Any

from .jsonpatch import MAX_OPERATIONS, json_patch
from .patcherror import PatchError
from .strategic import Lookup, Merge, strategic_merge
from .values import without_nulls

__all__ = [
    "MAX_OPERATIONS",
    "Lookup",
    "Merge",
    "PatchError",
    "json_patch",
    "merge_patch",
    "strategic_merge",
]


def merge_patch(original: Any, patch: Any) -> Any:
    """RFC 7386: maps merge, null removes, everything else replaces. Upstream's library also takes
    the nulls out of maps inside lists."""
    if not isinstance(patch, dict):
        return without_nulls(patch)
    out = dict(original) if isinstance(original, dict) else {}
    for name, value in patch.items():
        if value is None:
            out.pop(name, None)
        elif isinstance(value, dict):
            out[name] = merge_patch(out.get(name), value)
        else:
            out[name] = without_nulls(value)
    return out
