"""The versions of a custom resource definition: what is around their schemas, and the schemas
(apiextensions-apiserver apis/apiextensions/validation)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sampan.api.errors import Cause, Object
from sampan.api.fields import duplicate, forbidden, invalid, required, too_many
from sampan.api.names import label_1035_problems

from .allowed import check_allowed
from .fieldpaths import field_path
from .givens import check_defaults
from .jsonpath import PathError, parse
from .wellformed import check_structural

COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
SELECTABLE = 8
"""Selectable fields of a version, as upstream."""
WARNING_LENGTH = 256
ROOT_FIELDS = {
    "description": "Description", "type": "Type", "format": "Format", "title": "Title",
    "maximum": "Maximum", "exclusiveMaximum": "ExclusiveMaximum", "minimum": "Minimum",
    "exclusiveMinimum": "ExclusiveMinimum", "maxLength": "MaxLength", "minLength": "MinLength",
    "pattern": "Pattern", "maxItems": "MaxItems", "minItems": "MinItems",
    "uniqueItems": "UniqueItems", "multipleOf": "MultipleOf", "required": "Required",
    "items": "Items", "properties": "Properties", "externalDocs": "ExternalDocs",
    "example": "Example",
    "x-kubernetes-preserve-unknown-fields": "XPreserveUnknownFields",
    "x-kubernetes-validations": "XValidations",
}  # fmt: skip
"""What the root of a schema may say beside a status subresource, and Go's names of it."""


def check_versions(versions: Sequence[Object]) -> Iterator[Cause]:
    """Complaints about the versions of a definition, one by one. What is the same in all of them
    is looked at by `check_shared`."""
    shared = _shared(versions)
    for position, version in enumerate(versions):
        path = f"spec.versions[{position}]"
        problems = label_1035_problems(version.get("name") or "")
        if problems:
            yield invalid(f"{path}.name", version.get("name") or "", ",".join(problems))
        yield from _warning(version, f"{path}.deprecationWarning")
        for field, check, _ in ASPECTS:
            if field not in shared:
                yield from check(version, f"{path}.{field}")


def check_shared(versions: Sequence[Object]) -> Iterator[Cause]:
    """Complaints about what is the same in all versions, where upstream's internal form has it."""
    shared = _shared(versions)
    if not versions:
        return
    first = versions[0]
    if any(_has_status(version) for version in versions):
        parts = {**(first.get("subresources") or {}), "status": {}}
        first = {**first, "subresources": parts}
    for field, check, place in ASPECTS:
        if field in shared:
            yield from check(first, f"spec.{place}")


def _shared(versions: Sequence[Object]) -> frozenset[str]:
    """The aspects in which all versions are alike."""
    return frozenset(
        field
        for field, _, _ in ASPECTS
        if versions and all(version.get(field) == versions[0].get(field) for version in versions)
    )


def _has_status(version: Object) -> bool:
    return (version.get("subresources") or {}).get("status") is not None


def _version_schema(version: Object, path: str) -> Iterator[Cause]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is not None:
        yield from _schema(schema, f"{path}.openAPIV3Schema", _has_status(version))


def _version_parts(version: Object, path: str) -> Iterator[Cause]:
    yield from _scale((version.get("subresources") or {}).get("scale"), path)


def _version_columns(version: Object, path: str) -> Iterator[Cause]:
    for position, column in enumerate(version.get("additionalPrinterColumns") or ()):
        yield from _column(column, f"{path}[{position}]")


def _version_fields(version: Object, path: str) -> Iterator[Cause]:
    if version.get("selectableFields"):
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        yield from _selectable(version["selectableFields"], schema, path)


ASPECTS: tuple[tuple[str, Callable[[Object, str], Iterator[Cause]], str], ...] = (
    ("schema", _version_schema, "validation"),
    ("subresources", _version_parts, "subresources"),
    ("additionalPrinterColumns", _version_columns, "additionalPrinterColumns"),
    ("selectableFields", _version_fields, "selectableFields"),
)
"""Field of a version, its check, and its place when all versions have the same."""


def _warning(version: Object, path: str) -> Iterator[Cause]:
    text = version.get("deprecationWarning")
    if text is None:
        return
    if not version.get("deprecated"):
        yield invalid(path, text, "can only be set for deprecated versions")
        return
    if len(text.encode()) > WARNING_LENGTH:
        yield invalid(path, text, f"must be <= {WARNING_LENGTH} characters long")
    if not text:
        yield invalid(path, text, "must not be an empty string")
    for position, letter in enumerate(text):
        if not letter.isprintable():
            why = (
                "must only contain printable UTF-8 characters; non-printable character found at "
                f"index {len(text[:position].encode())}"
            )
            yield invalid(path, text, why)
            break


def _schema(schema: Object, path: str, has_status: bool) -> Iterator[Cause]:
    if has_status:
        yield from _root(schema, path)
    if schema.get("nullable"):
        yield forbidden(f"{path}.nullable", "nullable cannot be true at the root")
    structural = check_structural(schema, path)
    yield from structural
    if not structural:
        yield from check_defaults(schema, path)
    allowed = check_allowed(schema, path)
    yield from allowed
    if not structural and not allowed:
        from .objects import has_rules

        if has_rules(schema):
            from .rulechecks import check_rules

            yield from check_rules(schema, path)


def _root(schema: Object, path: str) -> Iterator[Cause]:
    kind = schema.get("type")
    if kind and kind != "object":
        why = (
            'only "object" is allowed as the type at the root of the schema if the status '
            "subresource is enabled"
        )
        yield invalid(f"{path}.type", kind, why)
    if any(value not in (None, "", [], {}, False) and name not in ROOT_FIELDS
           for name, value in schema.items()):  # fmt: skip
        why = (
            f"only [{' '.join(ROOT_FIELDS.values())}] fields are allowed at the root of the schema "
            "if the status subresource is enabled"
        )
        yield invalid(path, schema, why)


def _scale(scale: Object | None, path: str) -> Iterator[Cause]:
    if scale is None:
        return
    for name, place in (
        ("specReplicasPath", ".spec"),
        ("statusReplicasPath", ".status"),
        ("labelSelectorPath", ""),
    ):
        value, where = scale.get(name) or "", f"{path}.scale.{name}"
        if not value:
            if place:
                yield required(where)
            continue
        problems = list(_simple_path(value, where))
        yield from problems
        prefixes = (place,) if place else (".spec", ".status")
        if not problems and not value.startswith(tuple(f"{item}." for item in prefixes)):
            either = "either " if len(prefixes) > 1 else ""
            why = f"should be a json path under {either}{' or '.join(prefixes)}"
            yield invalid(where, value, why)


def _simple_path(text: str, path: str) -> Iterator[Cause]:
    if not text.startswith("."):
        yield invalid(path, text, "must be a simple json path starting with .")


def _column(column: Object, path: str) -> Iterator[Cause]:
    if not column.get("name"):
        yield required(f"{path}.name")
    kind, form = column.get("type"), column.get("format")
    if kind not in COLUMN_TYPES:
        why = f"must be one of {','.join(COLUMN_TYPES)}"
        yield invalid(f"{path}.type", kind, why) if kind else required(f"{path}.type", why)
    if form and form not in COLUMN_FORMATS:
        yield invalid(f"{path}.format", form, f"must be one of {','.join(COLUMN_FORMATS)}")
    text = column.get("jsonPath")
    if not text:
        yield required(f"{path}.JSONPath")
        return
    if not text.startswith("."):
        yield invalid(f"{path}.JSONPath", text, "must be a simple json path starting with .")
        return
    try:
        parse(text)
    except PathError as error:
        yield invalid(f"{path}.JSONPath", text, f"is an invalid path: {error}")


def _selectable(fields: Sequence[Object], schema: Any, path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for position, field in enumerate(fields):
        where, text = f"{path}[{position}].jsonPath", field.get("jsonPath") or ""
        if not text:
            yield required(where)
            continue
        path_text, why, found = field_path(schema or {}, text, brackets=False)
        if path_text is None:
            yield invalid(where, text, f"is an invalid path: {why}")
            continue
        if text.startswith(".metadata"):
            yield invalid(where, text, "must not point to fields in metadata")
        if found.get("type") not in ("string", "boolean", "integer"):
            why = (
                "must point to a field of type string, boolean or integer. Enum string fields and "
                "strings with formats are allowed."
            )
            yield invalid(where, text, why)
        if text in seen:
            yield duplicate(where, text)
        seen.add(text)
    if len(seen) > SELECTABLE:
        yield too_many(path, len(seen), SELECTABLE)


def unknown_formats(versions: Sequence[Object]) -> list[str]:
    """Formats of strings that nothing checks, each once, in the order they are found: upstream
    warns of them (GetUnrecognizedFormats)."""
    from .formats import is_known

    todo: list[Any] = [(item.get("schema") or {}).get("openAPIV3Schema") for item in versions]
    found: dict[str, None] = {}
    for node in todo:
        if not isinstance(node, dict):
            continue
        form = node.get("format")
        # Numbers have formats that only inform.
        if form and node.get("type") == "string" and not is_known(form):
            found[form] = None
        todo += [node.get(name) for name in ("items", "not", "additionalProperties")]
        todo += [item for name in ("allOf", "anyOf", "oneOf") for item in node.get(name) or ()]
        todo += (node.get("properties") or {}).values()
    return list(found)


def check_conversion_reviews(versions: Sequence[str], path: str) -> Iterator[Cause]:
    """conversionReviewVersions: this server must know one of them."""
    if not versions:
        yield required(path)
        return
    for position, name in enumerate(versions):
        if name in versions[:position]:
            yield invalid(f"{path}[{position}]", name, "duplicate version")
            continue
        for why in label_1035_problems(name):
            yield invalid(f"{path}[{position}]", name, why)
    if not {"v1", "v1beta1"} & set(versions):
        why = "must include at least one of v1, v1beta1"
        yield invalid(path, list(versions), why)
