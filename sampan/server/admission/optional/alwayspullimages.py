"""AlwaysPullImages: every image is pulled with the pod's own credentials, so that nobody runs what
somebody else was allowed to pull to the same node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sampan.api import fields
from sampan.api.errors import Object, aggregate

from ...exchange import Write
from ..configuration import Settings
from ..plugin import Plugin, refuse

if TYPE_CHECKING:
    from ...app import Server

ALWAYS = "Always"
LISTS = ("initContainers", "containers", "ephemeralContainers")


def mutate(server: Server, write: Write) -> None:
    if _is_ignored(write):
        return
    for _, container in _containers(write.obj):
        container["imagePullPolicy"] = ALWAYS
    for _, image in _image_volumes(write.obj):
        image["pullPolicy"] = ALWAYS


def validate(server: Server, write: Write) -> None:
    """What a plugin behind this one has made of it."""
    if _is_ignored(write):
        return
    places = [
        (f"{path}.imagePullPolicy", container.get("imagePullPolicy") or "")
        for path, container in _containers(write.obj)
    ]
    places += [
        (f"{path}.pullPolicy", image.get("pullPolicy") or "")
        for path, image in _image_volumes(write.obj)
    ]
    problems = [
        f"{path}: {fields.not_supported(path, value, (ALWAYS,)).text}"
        for path, value in places
        if value != ALWAYS
    ]
    if problems:
        raise refuse(write, aggregate(problems))


def _is_ignored(write: Write) -> bool:
    """An update that brings no new image leaves the pod as it is."""
    if write.operation != "UPDATE" or write.old is None:
        return False
    before = {container.get("image") for _, container in _containers(write.old)}
    return all(container.get("image") in before for _, container in _containers(write.obj))


def _containers(pod: Object) -> Iterator[tuple[str, Object]]:
    spec = pod.get("spec") or {}
    for field in LISTS:
        for at, container in enumerate(spec.get(field) or ()):
            yield f"spec.{field}[{at}]", container


def _image_volumes(pod: Object) -> Iterator[tuple[str, Object]]:
    for at, volume in enumerate((pod.get("spec") or {}).get("volumes") or ()):
        if volume.get("image") is not None:
            yield f"spec.volumes[{at}].image", volume["image"]


def make(settings: Settings) -> Plugin:
    """It has no configuration."""
    return Plugin(settings.name, {("", "pods"): ("CREATE", "UPDATE")}, mutate, validate)
