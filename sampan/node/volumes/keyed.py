"""configMap and secret volumes: keys to files. Pure.

pkg/volume/configmap MakePayload, pkg/volume/secret MakePayload.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from sampan.api.errors import Object

from .atomic import File
from .source import DEFAULT_MODE, Sources, VolumeError

SINGULAR = {"configmaps": "configmap", "secrets": "secret"}
MISSING_KEY = {
    "configmaps": "configmap references non-existent config key: {}",
    "secrets": "references non-existent secret key: {}",
}


def keyed_files(
    plural: str, name: str, source: Mapping[str, Any], sources: Sources
) -> dict[str, File]:
    """Every key as a file, or `items` alone. Raises VolumeError for what is missing."""
    obj = sources.lookup(plural, name)
    optional = bool(source.get("optional"))
    if obj is None:
        if optional:
            return {}
        raise VolumeError(f'{SINGULAR[plural]} "{name}" not found')
    contents = content(plural, obj)
    mode = source.get("defaultMode", DEFAULT_MODE)
    items = source.get("items")
    if not items:
        return {key: File(data, mode) for key, data in contents.items()}
    out = {}
    for item in items:
        data = contents.get(item["key"])
        if data is None:
            if optional:
                continue
            raise VolumeError(MISSING_KEY[plural].format(item["key"]))
        out[item["path"]] = File(data, item.get("mode", mode))
    return out


def content(plural: str, obj: Object) -> dict[str, bytes]:
    """The data of a ConfigMap or Secret as bytes."""
    data = obj.get("data") or {}
    if plural == "secrets":
        return {key: base64.b64decode(text) for key, text in data.items()}
    out = {key: text.encode() for key, text in data.items()}
    binary = obj.get("binaryData") or {}
    return out | {key: base64.b64decode(text) for key, text in binary.items()}
