"""What volumes are made from, and how one fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.node.downward import Facts
from sampan.node.environment import Lookup

DEFAULT_MODE = 0o644
TOKEN_MODE_OWNED = 0o600


class VolumeError(Exception):
    """The volume cannot be set up (yet); the text goes into the FailedMount event."""

    step = "MountVolume.SetUp"
    """What failed, as the event names it."""
    reason = "FailedMount"
    """The event's."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason or self.reason


NEW_MOUNTER = "NewMounter initialization"


class DeviceError(VolumeError):
    """A step before the volume's own set-up failed: MountDevice, WaitForAttach, NEW_MOUNTER."""

    def __init__(self, step: str, text: str) -> None:
        super().__init__(text)
        self.step = f"MountVolume.{step}"


class MapError(VolumeError):
    """A volume of mode Block cannot be had."""

    def __init__(self, step: str, text: str) -> None:
        super().__init__(text, "FailedMapVolume")
        self.step = f"MapVolume.{step}"


class NotYet(VolumeError):
    """Somebody else has to do something first, and probably will: no event yet."""


class Token(Struct, frozen=True):
    """A service account's token for one audience, as TokenRequest gave it."""

    text: str
    refresh_at: float
    expires: str = ""
    """As the server wrote it."""


class Sources(Struct, frozen=True):
    """Inputs of the volumes whose content comes from the API."""

    facts: Facts
    lookup: Lookup
    tokens: Mapping[tuple[str, int], Token] = field(default_factory=dict)
    """By (audience, expirationSeconds)."""
    bundles: Sequence[Object] = ()
    """Every ClusterTrustBundle, if the pod wants any."""

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
