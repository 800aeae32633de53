"""Images for containers: pull policy, credentials, back-off (pkg/kubelet/images).

No tasks of its own; concurrent pulls of one image share the work inside `Images`. Back-offs are
kept per pod and image and forgotten with the pod.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sampan.aio.clock import Clock
from sampan.api.errors import Object
from sampan.runtime.interface import Credentials, Image, Images, RuntimeFailure
from sampan.runtime.reference import is_id, parse

from .machine import CRASH_CAP_S, CRASH_INITIAL_S
from .narration import Narrator
from .state import Waiting

# How long a failed pull shows as ErrImagePull before it is ImagePullBackOff.
FRESH_S = 3.0
DEFAULT_REGISTRY = "docker.io"
HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")


class Held(Exception):
    """The container has to wait; `waiting` says why and until when."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(waiting.message)
        self.waiting = waiting


@dataclass(frozen=True, slots=True)
class _Failure:
    delay_s: float
    retry_at: float
    fresh_until: float
    text: str


class Pulls:
    """Gets an image ready for a container, or says why it is not."""

    def __init__(self, images: Images, clock: Clock) -> None:
        self._images = images
        self._clock = clock
        self._failures: dict[tuple[str, str], _Failure] = {}

    def is_present(self, container: Mapping[str, Any]) -> bool:
        try:
            return self.present(container) is not None
        except RuntimeFailure:
            return False

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        for key in [key for key in self._failures if key[0] == uid]:
            del self._failures[key]

    def present(self, container: Mapping[str, Any]) -> Image | None:
        """The image, when it is here and the policy does not ask the registry.

        Raises RuntimeFailure for what is not the name of an image.
        """
        if container.get("imagePullPolicy") == "Always":
            return None
        return self._images.find(container.get("image", ""))

    async def ensure(
        self, container: Mapping[str, Any], secrets: Iterable[Object], narrator: Narrator
    ) -> Image:
        """Raises Held for whatever keeps the container from having its image."""
        name = container.get("image", "")
        try:
            if not is_id(name):
                parse(name)
            image = self.present(container)
        except RuntimeFailure as error:
            text = f'Failed to apply default image tag "{name}": {error}'
            narrator.container(container, "Warning", "InspectFailed", text)
            narrator.container(container, "Warning", "Failed", "Error: InvalidImageName")
            retry_at = self._clock.now() + CRASH_CAP_S
            raise Held(Waiting("InvalidImageName", text, retry_at)) from error
        if image is not None:
            narrator.container(container, "Normal", "Pulled", _already(name))
            return image
        if container.get("imagePullPolicy") == "Never":
            text = f'Container image "{name}" is not present with pull policy of Never'
            narrator.container(container, "Warning", "ErrImageNeverPull", text)
            narrator.container(container, "Warning", "Failed", "Error: ErrImageNeverPull")
            raise Held(Waiting("ErrImageNeverPull", text, self._clock.now() + CRASH_INITIAL_S))
        self._hold_back(container, narrator)
        return await self._pull(container, secrets, narrator)

    def _hold_back(self, container: Mapping[str, Any], narrator: Narrator) -> None:
        name = container.get("image", "")
        failure = self._failures.get((narrator.uid, name))
        if failure is None or self._clock.now() >= failure.retry_at:
            return
        text = f'Back-off pulling image "{name}"'
        narrator.container(container, "Normal", "BackOff", text)
        narrator.container(container, "Warning", "Failed", "Error: ImagePullBackOff")
        message = f"{text}: ErrImagePull: {failure.text}"
        raise Held(Waiting("ImagePullBackOff", message, failure.retry_at))

    async def _pull(
        self, container: Mapping[str, Any], secrets: Iterable[Object], narrator: Narrator
    ) -> Image:
        name = container.get("image", "")
        key = (narrator.uid, name)
        narrator.container(container, "Normal", "Pulling", f'Pulling image "{name}"')
        began = self._clock.monotonic()
        try:
            image = await self._images.pull(name, credentials(name, secrets))
        except RuntimeFailure as error:
            now = self._clock.now()
            old = self._failures.get(key)
            delay = min(old.delay_s * 2, CRASH_CAP_S) if old else CRASH_INITIAL_S
            text = str(error)
            self._failures[key] = _Failure(delay, now + delay, now + FRESH_S, text)
            narrator.container(
                container, "Warning", "Failed", f'Failed to pull image "{name}": {text}'
            )
            narrator.container(container, "Warning", "Failed", "Error: ErrImagePull")
            raise Held(Waiting("ErrImagePull", text, now + FRESH_S)) from error
        self._failures.pop(key, None)
        took = f"{self._clock.monotonic() - began:.3g}s"
        narrator.container(
            container,
            "Normal",
            "Pulled",
            f'Successfully pulled image "{name}" in {took} ({took} including waiting). '
            f"Image size: {image.size_bytes} bytes.",
        )
        return image


def _already(name: str) -> str:
    return f'Container image "{name}" already present on machine and can be accessed by the pod'


def registry_and_path(reference: str) -> tuple[str, str]:
    """("docker.io", "library/nginx") of "nginx:1.25"; without tag and digest."""
    name = reference.partition("@")[0]
    head, slash, rest = name.partition("/")
    if slash and (any(mark in head for mark in ".:") or head == "localhost"):
        registry, path = head, rest
    else:
        registry, path = DEFAULT_REGISTRY, name if slash else f"library/{name}"
    folder, _, last = path.rpartition("/")
    path = f"{folder}/{last.partition(':')[0]}".lstrip("/")
    return ("docker.io" if registry in HUB_NAMES else registry), path


def credentials(reference: str, secrets: Iterable[Object]) -> Credentials | None:
    """The pod's credentials for the image's registry: the longest match of host and path.

    Understands kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg; Secrets that are
    damaged are passed over, as upstream does.
    """
    registry, path = registry_and_path(reference)
    best: tuple[int, Credentials] | None = None
    for secret in secrets:
        for address, entry in _entries(secret).items():
            host, prefix = _address(address)
            if host != registry or not (path + "/").startswith(prefix):
                continue
            found = _credentials(entry)
            if found is not None and (best is None or len(prefix) > best[0]):
                best = (len(prefix), found)
    return best[1] if best else None


def _entries(secret: Object) -> Mapping[str, Any]:
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            parsed = json.loads(base64.b64decode(data[".dockerconfigjson"]))
            entries = parsed.get("auths")
        else:
            entries = json.loads(base64.b64decode(data.get(".dockercfg", "")) or b"{}")
    except (ValueError, binascii.Error, AttributeError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _address(text: str) -> tuple[str, str]:
    """Host and path prefix ("" or "a/b/") of a key such as "https://index.docker.io/v1/"."""
    bare = text.partition("://")[2] or text
    host, _, path = bare.partition("/")
    if host in HUB_NAMES:
        return "docker.io", "" if path.strip("/") in ("", "v1", "v2") else path.strip("/") + "/"
    path = path.strip("/")
    if path in ("v1", "v2"):
        path = ""
    return host, f"{path}/" if path else ""


def _credentials(entry: Any) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    user, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth"):
        try:
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (ValueError, binascii.Error):
            return None
    token = entry.get("identitytoken") or entry.get("registrytoken") or ""
    if not (user or token):
        return None
    return Credentials(user, password, token)
