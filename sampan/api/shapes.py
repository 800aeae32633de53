"""The distilled schema as it lies in the package, made by hatch_build.py.

`schema.json` maps a name such as "io.k8s.api.core.v1.Pod" to its shape: `type`, `properties`,
`items`, `additionalProperties`, `$ref` (a plain name), `format`, `required`, the `x-kubernetes-*`
keys for lists, patches and unions, and `x-omitempty` on a field whose zero or empty value Go leaves
out. `resources.json` are rows with group, version, kind, plural, namespaced, verbs (as lightkube
names them), subresources and definition: all that a node reads. Texts for OpenAPI are in
`descriptions.json.z`: name -> {"": the definition's, field: the field's}.
"""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import Any

import orjson

Shape = dict[str, Any]

_HERE = Path(__file__).parent


@cache
def definitions() -> dict[str, Shape]:
    """All shapes by definition name. Nobody changes them. Read once per process (a few
    milliseconds): who needs them needs them as long as it lives."""
    shapes: dict[str, Shape] = orjson.loads((_HERE / "schema.json").read_bytes())
    return shapes


@cache
def resource_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = orjson.loads((_HERE / "resources.json").read_bytes())
    return rows


def read_descriptions() -> dict[str, dict[str, str]]:
    """The texts, unpacked anew at each call (2 MB): OpenAPI reads them and lets them go."""
    packed = (_HERE / "descriptions.json.z").read_bytes()
    texts: dict[str, dict[str, str]] = orjson.loads(zlib.decompress(packed))
    return texts


@cache
def _by_kind() -> dict[tuple[str, str, str], str]:
    return {
        (item["group"], item["version"], item["kind"]): name
        for name, shape in definitions().items()
        for item in shape.get("x-kubernetes-group-version-kind", ())
    }


def definition_of(group: str, version: str, kind: str) -> str:
    """The definition of a kind, e.g. ("apps", "v1", "Deployment"); "" when there is none."""
    return _by_kind().get((group, version, kind), "")
