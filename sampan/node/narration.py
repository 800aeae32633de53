"""Events about one pod, in kubelet's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sampan.api.errors import Object


class Recorder(Protocol):
    """What `client.events.EventRecorder` offers."""

    def event(
        self,
        obj: Object,
        type: str,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None: ...


class Narrator:
    """Writes events on one pod and its containers. Never blocks."""

    def __init__(self, recorder: Recorder, pod: Object) -> None:
        meta = pod["metadata"]
        self.uid: str = meta["uid"]
        self.namespace: str = meta["namespace"]
        self.name: str = meta["name"]
        self._recorder = recorder
        # Ephemeral containers are added later; all others are there from the beginning.
        self._fields = {
            item["name"]: field
            for field in ("initContainers", "containers")
            for item in pod["spec"].get(field) or ()
        }
        self._about = {
            "kind": "Pod",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
            "apiVersion": "v1",
            "resourceVersion": meta.get("resourceVersion", ""),
        }

    def pod(
        self, kind: str, reason: str, message: str, annotations: Mapping[str, str] | None = None
    ) -> None:
        self._recorder.event(self._about, kind, reason, message, annotations=annotations)

    def container(self, container: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        field = self._fields.get(container["name"], "ephemeralContainers")
        about = self._about | {"fieldPath": f"spec.{field}{{{container['name']}}}"}
        self._recorder.event(about, kind, reason, message)
