"""The administrator's files about admission: which plugins are on, and what they are told.

`admission.yaml` is upstream's --enable-admission-plugins and --disable-admission-plugins:

    enable: [AlwaysPullImages]
    disable: [DenyServiceExternalIPs]

`admission-configuration.yaml` is upstream's --admission-control-config-file, an
AdmissionConfiguration; paths in it are looked for from its folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from .. import documents
from ..documents import BadDocument

FILE = "admission-configuration.yaml"
KIND = "AdmissionConfiguration"
GROUP = "apiserver.config.k8s.io"
VERSIONS = (f"{GROUP}/v1", f"{GROUP}/v1alpha1")


class Settings(Struct, frozen=True):
    """What a plugin is told."""

    name: str
    folder: Path = Path()
    """Where files that `raw` names are looked for."""
    raw: Any = None
    """Its configuration, decoded; None if there is none."""


def has_configuration(folder: Path | None) -> bool:
    """Is there an AdmissionConfiguration?"""
    return folder is not None and (folder / FILE).exists()


def settings_of(folder: Path | None, name: str) -> Settings:
    """The settings of a plugin in the administrator's folder. Raises ValueError and OSError: a
    cluster must not start otherwise than asked."""
    if folder is None:
        return Settings(name)
    found = documents.load(folder / FILE, partial(_find, folder=folder, name=name))
    return Settings(name, folder) if found is None else found


def _find(raw: Any, folder: Path, name: str) -> Settings:
    """What a decoded file says of one plugin; the last entry counts."""
    found = documents.versioned(raw, VERSIONS, KIND, ("plugins",))
    out = Settings(name, folder)
    for at, item in enumerate(documents.items(found.get("plugins"), "plugins")):
        path = f"plugins[{at}]"
        plugin = mapping(item, path, ("name", "path", "configuration"))
        if plugin.get("name") == name:
            out = Settings(name, *_configuration(plugin, path, folder))
    return out


def _configuration(plugin: Mapping[str, Any], path: str, folder: Path) -> tuple[Path, Any]:
    """The folder and content of what one entry says, in place or in a file."""
    where = plugin.get("path") or ""
    if not where:
        return folder, plugin.get("configuration")
    if not isinstance(where, str) or plugin.get("configuration") is not None:
        raise BadDocument(f"{path}: has a path or a configuration")
    file = folder / where
    return file.parent, documents.read(file)


def mapping(raw: Any, path: str, known: Sequence[str] | None = None) -> Mapping[str, Any]:
    """As `documents.mapping`, but nothing is an empty one. Raises BadDocument."""
    return {} if raw is None else documents.mapping(raw, path, known)


def versioned(
    settings: Settings, version: str, kind: str, known: Sequence[str]
) -> Mapping[str, Any]:
    """A plugin's configuration of one version and kind. Raises BadDocument."""
    if settings.raw is None or settings.raw == {}:
        return {}
    try:
        return documents.versioned(settings.raw, (version,), kind, known)
    except BadDocument as error:
        raise BadDocument(f"{settings.name}: {error}") from None
