"""Images for containers: pull policy, credentials, back-off (pkg/kubelet/images).

No tasks of its own; concurrent pulls of one image share the work inside `Images`. Back-offs are
kept per pod and image and forgotten with the pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from sampan.aio.clock import Clock
from sampan.api.errors import Object
from sampan.runtime.interface import Image, Images, RuntimeFailure
from sampan.runtime.reference import is_id, parse

from .accesses import Accesses
from .keyring import Key, keys_for
from .machine import CRASH_CAP_S, CRASH_INITIAL_S, go_duration
from .narration import Narrator
from .state import Waiting
from .tally import Tally
from .timings import IMAGE_PULL, size_class

# How long a failed pull shows as ErrImagePull before it is ImagePullBackOff.
FRESH_S = 3.0


class Held(Exception):
    """The container has to wait; `waiting` says why and until when."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(waiting.message)
        self.waiting = waiting


class _Failure(Struct, frozen=True):
    """Its times are monotonic: somebody may set the clock."""

    delay_s: float
    retry_at: float
    text: str


class Pulls:
    """Gets an image ready for a container, or says why it is not."""

    def __init__(
        self, images: Images, clock: Clock, accesses: Accesses, tally: Tally | None = None
    ) -> None:
        self._images = images
        self._clock = clock
        self._accesses = accesses
        self._tally = tally or Tally()
        self._failures: dict[tuple[str, str], _Failure] = {}
        self._settled = False
        self._spans: dict[str, tuple[float, float]] = {}
        """By pod, from when to when its images were pulled."""

    def is_free(self, container: Mapping[str, Any]) -> bool:
        """Whether the image is here, and any pod may use it: no secrets are needed."""
        try:
            image = self.present(container)
        except RuntimeFailure:
            return False
        return image is not None and self._accesses.is_open(container.get("image", ""), image)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        for key in [key for key in self._failures if key[0] == uid]:
            del self._failures[key]
        self._spans.pop(uid, None)

    def span(self, uid: str) -> tuple[float, float]:
        """From the beginning of the pod's first pull to the end of its last."""
        return self._spans.get(uid, (0.0, 0.0))

    def forget_image(self, image_id: str) -> None:
        """The image is gone."""
        self._accesses.forget(image_id)

    def present(self, container: Mapping[str, Any]) -> Image | None:
        """The image, when it is here and the policy does not ask the registry.

        Raises RuntimeFailure for what is not the name of an image.
        """
        if not self._settled:
            # By now the images are known, whatever runs them.
            self._settled = True
            self._accesses.settle(self._images.find)
        if container.get("imagePullPolicy") == "Always":
            return None
        return self._images.find(container.get("image", ""))

    async def ensure(
        self, container: Mapping[str, Any], secrets: Sequence[Object], narrator: Narrator
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
        keys = keys_for(name, secrets)
        if image is not None and self._accesses.allows(name, image, keys):
            narrator.container(container, "Normal", "Pulled", _already(name))
            return image
        if container.get("imagePullPolicy") == "Never":
            text = f'Container image "{name}" is not present with pull policy of Never'
            if image is not None:
                text = (
                    f'Container image "{name}" is present with pull policy of Never but does not '
                    "have the proper credentials to access the image"
                )
            narrator.container(container, "Warning", "ErrImageNeverPull", text)
            narrator.container(container, "Warning", "Failed", "Error: ErrImageNeverPull")
            raise Held(Waiting("ErrImageNeverPull", text, self._clock.now() + CRASH_INITIAL_S))
        self._hold_back(container, narrator)
        return await self._pull(container, keys, narrator)

    def _hold_back(self, container: Mapping[str, Any], narrator: Narrator) -> None:
        name = container.get("image", "")
        failure = self._failures.get((narrator.uid, name))
        left_s = failure.retry_at - self._clock.monotonic() if failure is not None else 0.0
        if failure is None or left_s <= 0:
            return
        text = f'Back-off pulling image "{name}"'
        narrator.container(container, "Normal", "BackOff", text)
        narrator.container(container, "Warning", "Failed", "Error: ImagePullBackOff")
        message = f"{text}: ErrImagePull: {failure.text}"
        raise Held(Waiting("ImagePullBackOff", message, self._clock.now() + left_s))

    async def _pull(
        self, container: Mapping[str, Any], keys: Sequence[Key], narrator: Narrator
    ) -> Image:
        name = container.get("image", "")
        key = (narrator.uid, name)
        narrator.container(container, "Normal", "Pulling", f'Pulling image "{name}"')
        began, since = self._clock.monotonic(), self._clock.now()
        try:
            image = await self._try_keys(name, keys)
        except RuntimeFailure as error:
            now = self._clock.monotonic()
            self._tally.operation("pull_image", now - began, failed=True)
            old = self._failures.get(key)
            delay = min(old.delay_s * 2, CRASH_CAP_S) if old else CRASH_INITIAL_S
            text = str(error)
            self._failures[key] = _Failure(delay, now + delay, text)
            narrator.container(
                container, "Warning", "Failed", f'Failed to pull image "{name}": {text}'
            )
            narrator.container(container, "Warning", "Failed", "Error: ErrImagePull")
            retry_at = self._clock.now() + FRESH_S
            raise Held(Waiting("ErrImagePull", text, retry_at)) from error
        self._failures.pop(key, None)
        self._spans[narrator.uid] = self._spans.get(narrator.uid, (since,))[0], self._clock.now()
        seconds = self._clock.monotonic() - began
        self._tally.operation("pull_image", seconds)
        self._tally.time(IMAGE_PULL, seconds, size_class(image.size_bytes))
        took = go_duration(seconds)
        narrator.container(
            container,
            "Normal",
            "Pulled",
            f'Successfully pulled image "{name}" in {took} ({took} including waiting). '
            f"Image size: {image.size_bytes} bytes.",
        )
        return image

    async def _try_keys(self, name: str, keys: Sequence[Key]) -> Image:
        """With one after the other until the registry gives the image; without any, as anybody."""
        if not keys:
            return await self._try((None,), name)
        self._accesses.begin(name, self._images.find(name))
        try:
            image = await self._try(keys, name)
        except RuntimeFailure:
            self._accesses.end(name)
            raise
        # Not where the pod goes meanwhile: the image may come all the same, as threads go on.
        self._accesses.end(name)
        return image

    async def _try(self, keys: Sequence[Key | None], name: str) -> Image:
        problems: list[str] = []
        for key in keys:
            try:
                image = await self._images.pull(name, key.credentials if key else None)
            except RuntimeFailure as error:
                if str(error) not in problems:
                    problems.append(str(error))
                last = error
                continue
            self._accesses.note(name, image, key)
            return image
        if len(problems) == 1:
            raise last
        raise type(last)(f"[{', '.join(problems)}]")


def _already(name: str) -> str:
    return f'Container image "{name}" already present on machine and can be accessed by the pod'
