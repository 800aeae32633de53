"""The images of a CRI server as the agent sees them.

What the server has is looked up at the start, after every change made here, and again when it is
listed: the next look knows what another client (`sampan image load`) has changed meanwhile. At most
one such look is under way.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sampan.aio.grpc import NOT_FOUND, RpcError

from ..interface import Credentials, Image, ImageNotFound, RegistryFailure, RuntimeFailure
from ..reference import InvalidReference, is_id, parse
from .containerd import PAUSE_IMAGE, PULL_S, Containerd

log = logging.getLogger("sampan.runtime.cri")


class CriImages:
    """`Images` of a CRI server."""

    def __init__(self, server: Containerd) -> None:
        self._server = server
        self._images: dict[str, Image] = {}
        self._changing = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Raises RuntimeFailure."""
        try:
            found = (await self._server.call("ListImages"))["images"]
            images = {}
            for item in found:
                old = self._images.get(item["id"])
                same = old is not None and list(old.tags) == item["repo_tags"]
                images[item["id"]] = old if same and old else await self._look(item)
            # All at once: who asks meanwhile would take an image for missing, or for unused.
            self._images = images
        except RpcError as error:
            raise RuntimeFailure(str(error)) from error

    async def _look_again(self) -> None:
        try:
            async with self._changing:
                await self.refresh()
        except RuntimeFailure as error:
            log.warning("images are not listed: %s", error)

    async def _look(self, item: Mapping[str, Any]) -> Image:
        answer = await self._server.call("ImageStatus", image={"image": item["id"]}, verbose=True)
        run = json.loads(answer["info"].get("info") or "{}").get("imageSpec", {}).get("config", {})
        return Image(
            id=item["id"],
            tags=item["repo_tags"],
            digests=item["repo_digests"],
            size_bytes=item["size"],
            entrypoint=run.get("Entrypoint") or (),
            command=run.get("Cmd") or (),
            env=run.get("Env") or (),
            working_dir=run.get("WorkingDir") or "",
            user=run.get("User") or "",
            stop_signal=run.get("StopSignal") or "",
            pinned=item["pinned"],
        )

    def find(self, reference: str) -> Image | None:
        if is_id(reference):
            return self._images.get(f"sha256:{reference.removeprefix('sha256:')}")
        try:
            name = parse(reference)
        except InvalidReference:
            return None
        wanted = name.with_digest(name.digest) if name.digest else name.tagged
        for image in self._images.values():
            if wanted in (image.digests if name.digest else image.tags):
                return image
        return None

    def list(self) -> Sequence[Image]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look_again())
        return [image for image in self._images.values() if PAUSE_IMAGE not in image.tags]

    async def open_layers(self, image_id: str) -> Sequence[Path]:
        """CRI has no word for it before containerd 2.1: its own client says where they are."""
        try:
            asked = {"image": image_id}
            answer = await self._server.call("ImageStatus", image=asked, verbose=True)
        except RpcError as error:
            raise RuntimeFailure(str(error)) from error
        info = json.loads(answer["info"].get("info") or "{}")
        if "chainID" not in info:
            raise ImageNotFound(f'image "{image_id}" not found')
        return await self._server.layers(info["chainID"])

    async def load(self, archive: Path) -> Sequence[Image]:
        async with self._changing:
            names = await self._server.load(archive)
            await self.refresh()
        found = {image.id: image for name in names if (image := self.find(name)) is not None}
        return [image.given(names) for image in found.values()]

    async def pull(self, reference: str, credentials: Credentials | None = None) -> Image:
        name = parse(reference)
        auth = None
        if credentials is not None:
            auth = {
                "username": credentials.username,
                "password": credentials.password,
                "identity_token": credentials.identity_token,
                "registry_token": credentials.token,
            }
        if self.find(reference) is None:
            # It may have been loaded meanwhile.
            await self._look_again()
            if (loaded := self.find(reference)) is not None:
                return loaded
        try:
            answer = await self._server.call(
                "PullImage", PULL_S, image={"image": str(name)}, auth=auth
            )
        except RpcError as error:
            kind = ImageNotFound if error.code == NOT_FOUND else RegistryFailure
            raise kind(str(error)) from error
        async with self._changing:
            await self.refresh()
        found = self.find(str(name)) or self._images.get(answer["image_ref"])
        if found is None:
            raise ImageNotFound(f"{name}: pulled, and not there")
        return found

    async def users(self, image_id: str) -> Sequence[str]:
        """The containers that were made of an image. Raises RuntimeFailure."""
        try:
            found = (await self._server.call("ListContainers"))["containers"]
        except RpcError as error:
            raise RuntimeFailure(str(error)) from error
        image = self._images[image_id]
        return [item["id"] for item in found if item["image_ref"] in (image.id, *image.digests)]

    def close(self) -> None:
        """For who has no runtime beside it."""
        self._server.close()

    async def remove(self, reference: str) -> None:
        image = self.find(reference)
        if image is None:
            raise ImageNotFound(f'image "{reference}" not found')
        async with self._changing:
            try:
                await self._server.call("RemoveImage", image={"image": image.id})
            except RpcError as error:
                raise RuntimeFailure(str(error)) from error
            self._images.pop(image.id, None)
