"""PersistentVolume."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="PersistentVolume",
    short_names=("pv",),
    storage="persistentvolumes",
    generation=False,
)
