"""Whole objects of a custom resource: their metadata, and every kind of validation in order
(apiextensions-apiserver registry/customresource/strategy, schema/objectmeta)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from sampan.api.checks import META
from sampan.api.errors import Cause, Object
from sampan.api.pruning import Walk

from .embedded import coerce_embedded, validate_embedded
from .listtypes import list_checker
from .validate import ABSENT, NOWHERE, Check, validator

OBJECT_META = {"$ref": f"{META}ObjectMeta"}

BLOCKING = frozenset({
    "FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany",
    "FieldValueTypeInvalid",
})  # fmt: skip
"""Complaints after which rules are not evaluated: they might be of a wrong type."""
BLOCKED = (
    "some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation"
)


class Malformed(Exception):
    """Metadata that cannot be decoded; the message is Go's."""


def coerced(schema: Object, obj: Object, unknown: list[str]) -> Object:
    """The object with its metadata, and that of embedded objects, decoded as ObjectMeta. It is
    not changed; what is clean is returned itself. Raises Malformed."""
    meta = obj.get("metadata")
    if meta is not None:
        clean = decode_meta(meta, "metadata", unknown)
        if clean is not meta:
            obj = {**obj, "metadata": clean}
    elif "metadata" in obj:
        obj = {name: value for name, value in obj.items() if name != "metadata"}
    return coerce_embedded(schema, obj, unknown, decode_meta)


def decode_meta(meta: Any, where: str, unknown: list[str]) -> Any:
    """ObjectMeta, decoded. Raises Malformed."""
    walk = Walk()
    clean = walk.value(OBJECT_META, meta, ("ObjectMeta",), where)
    if walk.error:
        raise Malformed(walk.error)
    unknown += walk.problems
    return clean


class Objects:
    """The validation of one version's objects, compiled as it is used."""

    def __init__(self, schema: Object) -> None:
        self._schema = schema

    @cached_property
    def _check(self) -> Check:
        return validator(self._schema)

    @cached_property
    def _check_status(self) -> Check | None:
        status = (self._schema.get("properties") or {}).get("status")
        return None if status is None else validator(status)

    @cached_property
    def _lists(self) -> Any:
        return list_checker(self._schema)

    @cached_property
    def _rules(self) -> Any:
        """None for a schema without rules, whose library is then never imported."""
        if not has_rules(self._schema):
            return None
        from .rules import rules_of

        return rules_of(self._schema)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        """Everything but rules; on updates what did not change is left alone."""
        out: list[Cause] = []
        self._check(obj, ABSENT if old is None else old, None, out)
        return out + self._others(obj, old)

    def validate_status(self, obj: Object, old: Object | None) -> list[Cause]:
        out: list[Cause] = []
        if self._check_status is not None and "status" in obj:
            was = ABSENT if old is None else old.get("status", ABSENT)
            found: list[Cause] = []
            self._check_status(obj["status"], was, None, found)
            out += [_below_status(cause) for cause in found]
        return out + self._others(obj, old)

    def _others(self, obj: Object, old: Object | None) -> list[Cause]:
        out = validate_embedded(self._schema, obj, old)
        if self._lists is not None:
            found: list[Cause] = self._lists(obj)
            # Lists that were bad already may stay as they are.
            if found and (old is None or not self._lists(old)):
                out += found
        return out

    def validate_rules(
        self,
        obj: Object,
        old: Object | None,
        causes: list[Cause],
        observe: Callable[[float], None] | None = None,
    ) -> list[Cause]:
        """The x-kubernetes-validations rules, unless what is wrong already forbids it; `observe`
        is told the seconds of each evaluation."""
        if self._rules is None:
            return []
        if any(cause.reason in BLOCKING for cause in causes):
            return [Cause(NOWHERE, f'Invalid value: "null": {BLOCKED}')]
        found: list[Cause] = self._rules.validate(obj, old, observe)
        return found


def _below_status(cause: Cause) -> Cause:
    path = "" if cause.path == NOWHERE else cause.path
    return Cause(f"status.{path}" if path else "status", cause.text, cause.reason)


def has_rules(schema: Any) -> bool:
    """Does a schema hold any x-kubernetes-validations?"""
    todo = [schema]
    while todo:
        node = todo.pop()
        if not isinstance(node, dict):
            continue
        if node.get("x-kubernetes-validations"):
            return True
        todo.extend((node.get("properties") or {}).values())
        todo += [node.get("items"), node.get("additionalProperties"), *(node.get("allOf") or ())]
    return False
