"""How much is computed before others have their turn.

The rules of a custom resource may cost a second of work where the object is large. A caller that
can wait elsewhere says so by `HURRIED`; what would take long then raises `Unfinished`, having
changed nothing, and is begun again where nobody else has to wait for it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

HURRIED: Final[ContextVar[bool]] = ContextVar("hurried", default=False)
"""Raise `Unfinished` instead of taking long."""


class Unfinished(Exception):
    """It takes longer than one turn of the loop may."""
