"""Levels and versions of the Pod Security Standards, and a namespace's choice of them by labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from sampan.api import fields
from sampan.api.errors import Cause

PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)
"""From the loosest to the strictest."""
LATEST = 1 << 30
"""The version `latest`: newer than every other."""
PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
_VERSION = re.compile(r"v1\.(0|[1-9]\d{0,8})")


class Standard(NamedTuple):
    """A level as of a version (the minor of v1.x)."""

    level: str = PRIVILEGED
    version: int = LATEST

    def __str__(self) -> str:
        version = "latest" if self.version == LATEST else f"v1.{self.version}"
        return f"{self.level}:{version}"


class Choice(NamedTuple):
    """What a namespace asks for."""

    enforce: Standard = Standard()
    audit: Standard = Standard()
    warn: Standard = Standard()

    @property
    def free(self) -> bool:
        """Nothing is to be checked."""
        return all(item.level == PRIVILEGED for item in self)

    def compact(self) -> str:
        """Without what is free."""
        named = zip(MODES, self, strict=True)
        return ", ".join(f"{mode}={item}" for mode, item in named if item.level != PRIVILEGED)


def choice_of(labels: Mapping[str, str] | None, default: Choice) -> tuple[Choice, list[Cause]]:
    """The choice, and what is wrong with the labels. A wrong level is restricted where it would be
    enforced, and privileged where it only warns or is audited (KEP-2579)."""
    if not labels or not any(name.startswith(PREFIX) for name in labels):
        return default, []
    causes: list[Cause] = []
    found = []
    for mode, standard in zip(MODES, default, strict=True):
        level, version = standard
        name = PREFIX + mode
        given = labels.get(name)
        if given is not None:
            level = given
            if given not in LEVELS:
                level = RESTRICTED if mode == "enforce" else PRIVILEGED
                why = f"must be one of {', '.join(LEVELS)}"
                causes.append(fields.invalid(f"metadata.labels[{name}]", given, why))
        given = labels.get(f"{name}-version")
        if given is not None:
            version = version_of(given)
            if version < 0:
                version = LATEST
                where = f"metadata.labels[{name}-version]"
                causes.append(fields.invalid(where, given, 'must be "latest" or "v1.x"'))
        found.append(Standard(level, version))
    return Choice(*found), causes


def version_of(text: str) -> int:
    """The minor of `v1.x`, `LATEST`, or -1."""
    if text == "latest":
        return LATEST
    match = _VERSION.fullmatch(text)
    return int(match[1]) if match else -1
