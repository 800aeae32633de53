"""What a strategy may do around a write."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from sampan.api.errors import Object

_NOTHING: AbstractContextManager[None] = nullcontext()


class Strategy:
    """The default: nothing is reserved."""

    def reserve(
        self, obj: Object, old: Object | None, dry_run: bool
    ) -> AbstractContextManager[None]:
        """Fill in what the server chooses, and hold it while the write is under way. `obj` is
        private and defaulted, `old` is None on create. Raises Invalid."""
        return _NOTHING


NONE = Strategy()
