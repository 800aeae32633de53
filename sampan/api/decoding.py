"""From a JSON value to an object of a kind: types checked, unknown fields and nulls dropped.

Two passes with one meaning. A compiled check (`checks`) answers "is this object clean?" without
building anything; nearly every object is, and is returned as it is. Only when it is not does a
walk over the schema (`pruning`) build the pruned copy, which shares what was clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .checks import check_of
from .errors import BadRequest, Object
from .pruning import Walk

MAX_SUMMARY = 30
"""Bytes of an undecodable body that an error message shows."""


class Decoded(NamedTuple):
    obj: Object
    problems: Sequence[str]
    """What strict decoding refuses and the server otherwise warns of: `unknown field "spec.x"`."""


def decode(
    definition: str, obj: Any, *, strict: bool = False, duplicates: Sequence[str] = ()
) -> Decoded:
    """Decode a JSON value. It is not changed; when it is clean it is returned itself.

    `duplicates` are the paths `wire.json` found twice in the body. Raises BadRequest for wrong
    types, and with `strict` for unknown and duplicate fields.
    """
    if check_of(definition)(obj):
        if not duplicates:
            return Decoded(obj, ())
        clean, problems = obj, [f'duplicate field "{path}"' for path in duplicates]
    else:
        walk = Walk()
        clean = walk.root(definition, obj)
        if walk.error:
            raise BadRequest(f"{cannot_handle(definition, obj)}: {walk.error}")
        problems = [f'duplicate field "{path}"' for path in duplicates] + walk.problems
    if strict and problems:
        text = ", ".join(problems)
        raise BadRequest(f"{cannot_handle(definition, obj)}: strict decoding error: {text}")
    return Decoded(clean, problems)


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
