"""The x-kubernetes-validations rules of a schema (KEP-2876), walked over the values they are
about."""

from __future__ import annotations

from sampan.api.errors import Cause, Object


class SchemaRules:
    """The compiled rules of one version."""

    def __init__(self, schema: Object) -> None:
        self._schema = schema

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        """Field errors of an object; `old` is None on create."""
        return []


def rules_of(schema: Object) -> SchemaRules:
    return SchemaRules(schema)
