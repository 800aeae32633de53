"""What mutating policies make: `Object{...}` for apply configurations, `JSONPatch{...}` operations.

Any field of `Object` is an object type named by its path (`Object.spec.template`), so a typed
initialisation needs no schema; what is not written `Object...{}` is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .functions import Functions, function, table, walk_first
from .names import unescape
from .types import DYN, STRING, Field, ObjectType, Type, list_of

ROOT = "Object"


class _Fields(Mapping[str, Field]):
    """Every field there could be. A value may be anything: maps and lists as well as objects."""

    def get(self, name: str, default: object = None) -> Field:
        return Field(DYN, unescape(name) or name)

    def __getitem__(self, name: str) -> Field:
        return self.get(name)

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Objects(dict[str, ObjectType]):
    """The types that can be made: JSONPatch, and whatever begins with Object."""

    def get(self, name: str, default: object = None) -> ObjectType | None:  # type: ignore[override]
        if name == ROOT or name.startswith(f"{ROOT}."):
            return ObjectType(name, _Fields())
        return super().get(name)


OPERATION = ObjectType(
    "JSONPatch",
    {
        "op": Field(STRING, "op"),
        "path": Field(STRING, "path"),
        "from": Field(STRING, "from"),
        "value": Field(DYN, "value"),
    },
)
OBJECTS: Mapping[str, ObjectType] = _Objects({"JSONPatch": OPERATION})
APPLIED: Type = ObjectType(ROOT, _Fields())
OPERATIONS: Type = list_of(OPERATION)


def _escape_key(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


def patch_functions() -> Functions:
    """jsonpatch.escapeKey: a key as part of a JSON pointer (RFC 6901)."""
    return table(("jsonpatch.escapeKey", function((STRING,), STRING, _escape_key, walk_first)))
