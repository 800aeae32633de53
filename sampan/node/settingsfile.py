"""A file of the administrator's for the node: YAML, bounded, read when the node starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def read_settings_file(path: Path, bytes_max: int, parse: Callable[[Any], T]) -> T | None:
    """What `parse` makes of the document; None without a file. Raises ValueError, which names the
    file, for one that is larger or that `parse` refuses."""
    try:
        with open(path, "rb") as file:
            text = file.read(bytes_max + 1)
    except FileNotFoundError:
        return None
    if len(text) > bytes_max:
        raise ValueError(f"{path} is larger than {bytes_max} bytes")
    # Few nodes have such a file, and a node loads only what it needs.
    import yaml

    try:
        return parse(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
