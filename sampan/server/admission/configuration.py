"""The administrator's files about admission: which plugins are on, and what they are told.

`admission.yaml` is upstream's --enable-admission-plugins and --disable-admission-plugins:

    enable: [AlwaysPullImages]
    disable: [DenyServiceExternalIPs]

`admission-configuration.yaml` is upstream's --admission-control-config-file, an
AdmissionConfiguration; paths in it are looked for from its folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

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
    path = folder / FILE
    if not path.exists():
        return Settings(name, folder)
    found = mapping(read(path), FILE, ("apiVersion", "kind", "plugins"))
    if found.get("kind") != KIND or found.get("apiVersion") not in VERSIONS:
        raise ValueError(f"{FILE}: apiVersion and kind must be {VERSIONS[0]} and {KIND}")
    plugins = found.get("plugins") or []
    if not isinstance(plugins, list):
        raise ValueError(f"{FILE}: plugins: must be a list")
    out = Settings(name, folder)
    for at, item in enumerate(plugins):
        plugin = mapping(item, f"{FILE}: plugins[{at}]", ("name", "path", "configuration"))
        if plugin.get("name") == name:
            out = Settings(name, *_configuration(plugin, folder, at))
    return out


def _configuration(plugin: Mapping[str, Any], folder: Path, at: int) -> tuple[Path, Any]:
    """The folder and content of what one entry says, in place or in a file."""
    where = plugin.get("path") or ""
    if not where:
        return folder, plugin.get("configuration")
    if not isinstance(where, str) or plugin.get("configuration") is not None:
        raise ValueError(f"{FILE}: plugins[{at}]: has a path or a configuration")
    file = folder / where
    return file.parent, read(file)


def read(path: Path) -> Any:
    """A decoded file of YAML. Raises ValueError and OSError."""
    import yaml

    try:
        return yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: not YAML: {error}") from error


def mapping(raw: Any, path: str, known: Sequence[str] = ()) -> Mapping[str, Any]:
    """`raw` as an object with no fields but the known ones, if any are given; nothing is an empty
    one. Raises ValueError."""
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: must be an object")
    for field in raw:
        if known and field not in known:
            raise ValueError(f"{path}: unknown field {field}")
    return raw


def versioned(
    settings: Settings, version: str, kind: str, known: Sequence[str]
) -> Mapping[str, Any]:
    """A plugin's configuration of one version and kind. Raises ValueError."""
    found = mapping(settings.raw, settings.name, ("apiVersion", "kind", *known))
    if found and (found.get("apiVersion"), found.get("kind")) != (version, kind):
        raise ValueError(f"{settings.name}: apiVersion and kind must be {version} and {kind}")
    return found
