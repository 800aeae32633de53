"""From a JSON value to an object of a kind: types checked, unknown fields and nulls dropped.

Two passes with one meaning. A compiled check (`checks`) answers "is this object clean?" without
building anything; nearly every object is, and is returned as it is. Only when it is not does a
walk over the schema (`pruning`) build the pruned copy, which shares what was clean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .checks import check_of
from .errors import BadRequest, Object
from .pruning import Walk

MAX_SUMMARY = 30
"""Bytes of an undecodable body that an error message shows."""
STRICT = "strict decoding error"
YAML_DUPLICATE = "already set in map"
"""How the text ends that tells of a key that comes twice in YAML."""


class Decoded(NamedTuple):
    obj: Object
    problems: Sequence[str]
    """What strict decoding refuses and the server otherwise warns of: `unknown field "spec.x"`."""


def decode(
    definition: str, obj: Any, *, strict: bool = False, duplicates: Sequence[str] = ()
) -> Decoded:
    """Decode a JSON value. It is not changed; when it is clean it is returned itself.

    `duplicates` are the paths `wire.json` (or the texts `wire.yaml`) found twice. Raises BadRequest
    for wrong types, and with `strict` for unknown and duplicate fields.
    """
    if check_of(definition)(obj):
        if not duplicates:
            return Decoded(obj, ())
        return reported(definition, obj, Decoded(obj, ()), strict=strict, duplicates=duplicates)
    walk = Walk()
    clean = walk.root(definition, obj)
    if walk.error:
        raise BadRequest(f"{cannot_handle(definition, obj)}: {walk.error}")
    found = Decoded(clean, walk.problems)
    return reported(definition, obj, found, strict=strict, duplicates=duplicates)


def reported(
    definition: str, obj: Any, decoded: Decoded, *, strict: bool, duplicates: Sequence[str]
) -> Decoded:
    """`decoded`, whose problems are the unknown fields of `obj`, with its duplicates: in the order
    of the document, as upstream's decoder meets them. With `strict` any problem is a BadRequest.
    """
    unknown = decoded.problems
    if not unknown and not duplicates:
        return decoded
    if not duplicates:
        problems = strictly = list(unknown)
    elif duplicates[0].endswith(YAML_DUPLICATE):
        # YAML is read to its end first, and becomes JSON with its keys in order.
        lines = "".join(f"\n  {text}" for text in duplicates)
        rest = sorted(unknown)
        problems, strictly = [*duplicates, *rest], [f"yaml: unmarshal errors:{lines}", *rest]
    else:
        problems = strictly = _ordered(obj, duplicates, unknown)
    if strict:
        text = ", ".join(strictly)
        raise BadRequest(f"{cannot_handle(definition, obj)}: {STRICT}: {text}")
    return Decoded(decoded.obj, problems)


def _ordered(obj: Any, duplicates: Sequence[str], unknown: Sequence[str]) -> list[str]:
    """What comes twice and what is unknown, where it comes first in the document. An unknown field
    that comes twice is only unknown."""
    texts = {path: f'duplicate field "{path}"' for path in duplicates}
    texts |= {text.partition('"')[2][:-1]: text for text in unknown}
    if len(texts) == 1:
        return list(texts.values())
    found = [texts.pop(path) for path in _paths(obj, "") if path in texts]
    return [*found, *texts.values()]


def _paths(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            path = f"{where}.{name}" if where else name
            yield path
            yield from _paths(item, path)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _paths(item, f"{where}[{position}]")


def cannot_handle(definition: str, obj: Any) -> str:
    """`Pod in version "v1" cannot be handled as a Pod`."""
    _, default_version, wanted = definition.rsplit(".", 2)
    kind = version = None
    if isinstance(obj, dict):
        # A body need not say what it is where the path does.
        kind, version = obj.get("kind") or wanted, obj.get("apiVersion") or default_version
    if not isinstance(kind, str) or not isinstance(version, str):
        return f"the object provided is unrecognized (must be of type {wanted})"
    return f'{kind} in version "{version.rpartition("/")[2]}" cannot be handled as a {wanted}'


def unrecognized(kind: str, why: str, body: bytes) -> BadRequest:
    """The error for a body whose kind cannot even be read (bad JSON, no object)."""
    if not body:
        shown = "<empty>"
    elif body[:1] == b"{":
        shown = body[:MAX_SUMMARY].decode(errors="replace")
    else:
        shown = body[:MAX_SUMMARY].hex()
    if len(body) > MAX_SUMMARY:
        shown += " ..."
    return BadRequest(
        f"the object provided is unrecognized (must be of type {kind}): {why} ({shown})"
    )
