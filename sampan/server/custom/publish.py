"""Schemas of custom resources in OpenAPI documents (apiextensions-apiserver pkg/controller/
openapi/builder).

Version 2 has no junctors and no null, and kubectl refuses what such a document does not describe:
where a schema has either, or leaves fields open, version 2 says nothing at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from sampan.api.checks import META
from sampan.api.descriptor import Descriptor, Structure
from sampan.api.errors import Object

from ..openapi_schemas import PREFIX

OBJECT_META, LIST_META = f"{META}ObjectMeta", f"{META}ListMeta"
CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
API_VERSION = {
    "description": (
        "APIVersion defines the versioned schema of this representation of an object. Servers "
        "should convert recognized schemas to the latest internal value, and may reject "
        f"unrecognized values. More info: {CONVENTIONS}#resources"
    ),
    "type": "string",
}
KIND = {
    "description": (
        "Kind is a string value representing the REST resource this object represents. Servers "
        "may infer this from the endpoint the client submits requests to. Cannot be updated. In "
        f"CamelCase. More info: {CONVENTIONS}#types-kinds"
    ),
    "type": "string",
}
META_TEXT = f"Standard object's metadata. More info: {CONVENTIONS}#metadata"
LIST_META_TEXT = f"Standard list metadata. More info: {CONVENTIONS}#types-kinds"
VALUE_VALIDATIONS = frozenset({
    "allOf", "anyOf", "oneOf", "not", "nullable", "default", "x-kubernetes-validations",
})  # fmt: skip
"""What version 2 has no words for, or what its readers would trip over."""

_digests: WeakKeyDictionary[Structure, str] = WeakKeyDictionary()


def digest_of(resource: Descriptor) -> str:
    """Changes with the schema of a resource; made once per schema."""
    structure, custom = resource.structure, resource.custom
    assert structure is not None
    assert custom is not None
    found = _digests.get(structure)
    if found is None:
        shown = [structure.schema, list(custom.selectable)]
        found = hashlib.sha256(orjson.dumps(shown)).hexdigest()
        _digests[structure] = found
    return found


def schemas_of(resource: Descriptor, openapi: int) -> Iterator[tuple[str, Object]]:
    """(name, schema) of a resource and of its list."""
    structure, custom = resource.structure, resource.custom
    assert structure is not None
    assert custom is not None
    yield resource.definition, _root(resource, dict(structure.schema), openapi)
    items: Object = {"$ref": PREFIX[openapi] + resource.definition}
    yield (
        f"{resource.definition}List",
        {
            "description": f"{resource.kind}List is a list of {resource.kind}",
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": _reference(LIST_META, LIST_META_TEXT, openapi),
                "items": {
                    "description": f"List of {resource.plural}. More info: {CONVENTIONS}",
                    "type": "array",
                    "items": items if openapi == 2 else {"allOf": [items]},
                },
            },
            "x-kubernetes-group-version-kind": [_kind(resource, custom.list_kind)],
        },
    )


def _kind(resource: Descriptor, kind: str) -> Object:
    return {"group": resource.group, "version": resource.version, "kind": kind}


def _reference(name: str, text: str, openapi: int) -> Object:
    ref = {"$ref": PREFIX[openapi] + name}
    return {"description": text, **ref} if openapi == 2 else {"description": text, "allOf": [ref]}


def _root(resource: Descriptor, schema: Object, openapi: int) -> Object:
    marks: Object = {"x-kubernetes-group-version-kind": [_kind(resource, resource.kind)]}
    if resource.custom is not None and resource.custom.selectable:
        selectable = [{"fieldPath": path} for path in resource.custom.selectable]
        marks["x-kubernetes-selectable-fields"] = selectable
    preserve = schema.get("x-kubernetes-preserve-unknown-fields")
    if not schema or (preserve and openapi == 2):
        open_root: Object = {"type": "object", **marks}
        if preserve:
            open_root["x-kubernetes-preserve-unknown-fields"] = True
        return open_root
    out = _simple(schema) if openapi == 2 else _whole(schema)
    out["type"] = "object"
    out["properties"] = {
        **(out.get("properties") or {}),
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": _reference(OBJECT_META, META_TEXT, openapi),
    }
    return {**out, **marks}


def _whole(schema: Any) -> Any:
    """A schema in version 3, with what embedded objects have."""
    if not isinstance(schema, dict):
        return schema
    out = {name: value for name, value in schema.items() if name != "properties"}
    if "properties" in schema:
        out["properties"] = {name: _whole(inner) for name, inner in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = _whole(out[key])
    if schema.get("x-kubernetes-embedded-resource"):
        out["properties"] = {**(out.get("properties") or {}), **_embedded(3)}
        out["required"] = sorted({*(out.get("required") or ()), "apiVersion", "kind"})
    return out


def _embedded(openapi: int) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": _reference(OBJECT_META, META_TEXT, openapi),
    }


def _simple(schema: Any) -> Any:
    """A schema in version 2."""
    if not isinstance(schema, dict):
        return schema
    out = {name: value for name, value in schema.items() if name not in VALUE_VALIDATIONS}
    if schema.get("nullable") or schema.get("x-kubernetes-preserve-unknown-fields"):
        for name in ("type", "items", "properties", "additionalProperties"):
            out.pop(name, None)
        return out
    if "properties" in out:
        out["properties"] = {name: _simple(inner) for name, inner in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = _simple(out[key])
    if schema.get("x-kubernetes-embedded-resource"):
        out["properties"] = {**(out.get("properties") or {}), **_embedded(2)}
    return out


def references_of(resource: Descriptor) -> list[str]:
    """Built-in definitions that the schemas refer to."""
    return [OBJECT_META, LIST_META]
