"""The administrator's files of YAML: read within bounds, and their fields checked one by one.

Whatever is wrong is told with the path of the field (`jwt[0].issuer.url`), and of the file where
there is one. All but `read` and `load` is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sampan.api.times import TimeError, parse_duration_s

T = TypeVar("T")

MAX_BYTES = 4 << 20
"""Of a file; the longest lists of issuers and rules are a hundredth of that."""


class BadDocument(ValueError):
    """The file is no good; the text says where."""


def read(path: Path, *, secret: bool = False) -> Any:
    """The decoded file. Of a `secret` one nothing is shown. Raises FileNotFoundError and
    BadDocument."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadDocument(f"{path}: {error}") from error
    if len(data) > MAX_BYTES:
        raise BadDocument(f"{path}: larger than {MAX_BYTES} bytes")
    # Imported only where there is a file.
    from sampan.wire import yaml

    twice: list[str] = []
    try:
        found = yaml.loads(data, twice)
    except yaml.YAMLError as error:
        raise BadDocument(f"{path}: not YAML" + ("" if secret else f": {error}")) from None
    if twice:
        why = "a key is given twice" if secret else f"yaml: {twice[0]}"
        raise BadDocument(f"{path}: {why}")
    return found


def load(path: Path, parse: Callable[[Any], T], *, secret: bool = False) -> T | None:
    """What `parse` makes of the decoded file; None if there is no file. Raises BadDocument."""
    try:
        raw = read(path, secret=secret)
    except FileNotFoundError:
        return None
    try:
        return parse(raw)
    except BadDocument as error:
        raise BadDocument(f"{path}: {error}") from None


def versioned(
    raw: Any, versions: Sequence[str], kind: str, fields: Sequence[str]
) -> Mapping[str, Any]:
    """A whole document of one of the versions (the first is named) and a kind. Raises
    BadDocument."""
    top = mapping(raw, "", ("apiVersion", "kind", *fields))
    if top.get("apiVersion") not in versions or top.get("kind") != kind:
        raise BadDocument(f"apiVersion and kind must be {versions[0]} and {kind}")
    return top


def mapping(raw: Any, path: str, known: Sequence[str] | None = None) -> Mapping[str, Any]:
    """An object that has no fields but the known ones, if they are given. Raises BadDocument."""
    if not isinstance(raw, dict):
        raise BadDocument(f"{path or 'the file'}: must be an object")
    for field in raw:
        if known is not None and field not in known:
            raise BadDocument(f"unknown field {at(path, field)}")
    return raw


def at(path: str, field: str) -> str:
    """The path of a field; "" is that of the whole document."""
    return f"{path}.{field}".lstrip(".")


def items(raw: Any, path: str) -> Sequence[Any]:
    """A list; nothing is an empty one. Raises BadDocument."""
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise BadDocument(f"{path}: must be a list")
    return raw


def text(found: Mapping[str, Any], field: str, path: str) -> str:
    """A text that is required. Raises BadDocument."""
    value = found.get(field)
    if not isinstance(value, str) or not value:
        raise BadDocument(f"{at(path, field)}: Required value")
    return value


def flag(found: Mapping[str, Any], field: str, path: str, default: bool) -> bool:
    """True or false. Raises BadDocument."""
    value = found.get(field, default)
    if not isinstance(value, bool):
        raise BadDocument(f"{at(path, field)}: must be true or false")
    return value


def duration_s(raw: Any, path: str) -> float:
    """Seconds of a duration such as 1m30s. Raises BadDocument unless it is above 0."""
    try:
        seconds = parse_duration_s(raw) if isinstance(raw, str) else None
    except TimeError:
        seconds = None
    if seconds is None:
        raise BadDocument(f"{path}: Invalid value: not a duration: {raw}")
    if seconds <= 0:
        raise BadDocument(f'{path}: Invalid value: "{raw}": must be > 0s')
    return seconds
