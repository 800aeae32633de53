"""Where a value is: a chain of parents, spelled out only when there is something to say."""

from __future__ import annotations

from typing import Any

Path = tuple[Any, str | int] | None
"""(path of the parent, field name or list index); None is the object itself."""


class Key(str):
    """A key of a map, where it is written in brackets."""

    __slots__ = ()


def text(path: Path, prefix: str = "") -> str:
    """`spec.containers[0].image`."""
    parts: list[str] = []
    while path is not None:
        path, step = path
        parts.append(f"[{step}]" if isinstance(step, int | Key) else f".{step}")
    return (prefix + "".join(reversed(parts))).removeprefix(".")
