"""Defaults and exemptions of Pod Security (pod-security.admission.config.k8s.io/v1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from ... import documents
from ..configuration import settings_of
from .levels import LEVELS, MODES, Choice, Standard, version_of

FILE = "pod-security.yaml"
KIND = "PodSecurityConfiguration"
FREE = Choice()


class Configuration(Struct, frozen=True):
    """What applies where a namespace says nothing, and who is not checked."""

    default: Choice = FREE
    users: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()

    def exemption(self, namespace: str, user: str) -> str:
        """What exempts a request: "namespace", "user" or "" for nothing."""
        if namespace in self.namespaces:
            return "namespace"
        return "user" if user in self.users else ""

    def exempts_class(self, name: str) -> bool:
        """A runtime class that is not checked."""
        return bool(name) and name in self.classes


def configuration_of(folder: Path | None) -> Configuration:
    """The configuration in the administrator's folder; without a file, nothing is enforced.
    Raises ValueError for a file that is wrong: a cluster must not start less safe than asked."""
    path = None if folder is None else folder / FILE
    if path is not None and path.exists():
        raw = documents.read(path)
    else:
        raw = settings_of(folder, "PodSecurity").raw
        if raw is None:
            return Configuration()
    if not isinstance(raw, dict) or raw.get("kind") != KIND:
        raise ValueError(f"{FILE}: not a {KIND}")
    return parse_configuration(raw)


def parse_configuration(raw: dict[str, Any]) -> Configuration:
    """The same of decoded YAML. Raises ValueError."""
    defaults, exemptions = raw.get("defaults") or {}, raw.get("exemptions") or {}
    standards = []
    for mode in MODES:
        level = str(defaults.get(mode) or "privileged")
        version = version_of(str(defaults.get(f"{mode}-version") or "latest"))
        if level not in LEVELS or version < 0:
            raise ValueError(f"{FILE}: defaults.{mode} is wrong")
        standards.append(Standard(level, version))
    return Configuration(
        Choice(*standards),
        frozenset(exemptions.get("usernames") or ()),
        frozenset(exemptions.get("runtimeClasses") or ()),
        frozenset(exemptions.get("namespaces") or ()),
    )
