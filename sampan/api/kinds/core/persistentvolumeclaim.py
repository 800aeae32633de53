"""PersistentVolumeClaim."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="PersistentVolumeClaim",
    short_names=("pvc",),
    storage="persistentvolumeclaims",
    generation=False,
)
