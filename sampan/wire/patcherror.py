"""The error of all patches."""

from __future__ import annotations


class PatchError(ValueError):
    """A patch that cannot be applied. `code` is the HTTP status upstream answers with: 400 for a
    malformed patch, 413 for one with too many operations, 422 for one that does not fit the
    object."""

    def __init__(self, message: str, code: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
