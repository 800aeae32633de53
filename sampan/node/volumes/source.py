"""What volumes are made from, and how one fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sampan.node.downward import Facts
from sampan.node.environment import Lookup

DEFAULT_MODE = 0o644
TOKEN_MODE_OWNED = 0o600


class VolumeError(Exception):
    """The volume cannot be set up (yet); the text goes into the FailedMount event."""


@dataclass(frozen=True, slots=True)
class Token:
    """A service account's token for one audience, as TokenRequest gave it."""

    text: str
    refresh_at: float


@dataclass(frozen=True, slots=True)
class Sources:
    """Inputs of the volumes whose content comes from the API."""

    facts: Facts
    lookup: Lookup
    tokens: Mapping[tuple[str, int], Token] = field(default_factory=dict)
    """By (audience, expirationSeconds)."""

    @property
    def fs_group(self) -> int:
        """-1 when there is none."""
        shared = self.facts.pod["spec"].get("securityContext") or {}
        group = shared.get("fsGroup")
        return -1 if group is None else int(group)

    @property
    def fs_user(self) -> int:
        """The user all containers share, who then owns tokens; -1 when they differ."""
        spec: Mapping[str, Any] = self.facts.pod["spec"]
        shared = (spec.get("securityContext") or {}).get("runAsUser")
        users = {
            (item.get("securityContext") or {}).get("runAsUser", shared)
            for field_name in ("initContainers", "containers")
            for item in spec.get(field_name) or ()
        }
        only = users.pop() if len(users) == 1 else None
        return -1 if only is None else int(only)
