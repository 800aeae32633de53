"""PodTemplate."""

from __future__ import annotations

from typing import Any

from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..printing import NAME, container_cells, labels_text, name
from .podspec.template import default_template
from .podspec.validate import check_template
from .podspec.warnings import warn_template


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    check_template(obj.get("template"), "template", out)
    return out


def warnings(obj: Object, old: Object | None) -> list[str]:
    return warn_template(obj, "template")


def cells(obj: Object, now_s: float) -> list[Any]:
    template = obj.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    return [name(obj), *container_cells(template), labels_text(labels)]


KIND = Kind(
    group="",
    version="v1",
    kind="PodTemplate",
    storage="podtemplates",
    generation=True,
    default=default_template,
    validate=validate,
    warnings=warnings,
    columns=(
        NAME,
        Column("Containers", "string", "Names of each container in the template."),
        Column("Images", "string", "Images referenced by each container in the template."),
        Column("Pod Labels", "string", "The labels for the pod template."),
    ),
    cells=cells,
)
