"""downwardAPI volumes: facts about the pod as files. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sampan.node.downward import UnknownField, field_value, resource_value

from .atomic import File
from .source import Sources, VolumeError


def downward_files(
    items: Iterable[Mapping[str, Any]], mode: int, sources: Sources
) -> dict[str, File]:
    out = {}
    for item in items:
        try:
            if item.get("fieldRef"):
                text = field_value(sources.facts, item["fieldRef"]["fieldPath"])
            else:
                text = resource_value(sources.facts, item["resourceFieldRef"])
        except UnknownField as error:
            raise VolumeError(str(error)) from error
        out[item["path"]] = File(text.encode(), item.get("mode", mode))
    return out
