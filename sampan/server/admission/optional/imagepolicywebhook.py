"""ImagePolicyWebhook: a webhook judges the images of every pod (imagepolicy.k8s.io/v1alpha1).

    imagePolicy:
      kubeConfigFile: FILE
      allowTTL: 50         # seconds; -1: not remembered
      denyTTL: 50
      retryBackoff: 500    # milliseconds
      defaultAllow: false  # what counts when the webhook cannot be asked

Answers are remembered, at most `REMEMBERED`, the oldest go first.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api.errors import Object

from ...exchange import Write
from ...webhooks.files import target_of_kubeconfig
from ..configuration import Settings, mapping
from ..plugin import Plugin, refuse

if TYPE_CHECKING:
    from ...app import Server

log = logging.getLogger("sampan.admission")

API_VERSION, KIND = "imagepolicy.k8s.io/v1alpha1", "ImageReview"
AUDIT_PREFIX = "imagepolicywebhook.image-policy.k8s.io/"
FAILED_OPEN = "failed-open"
FORWARDED = ".image-policy.k8s.io/"
"""Annotations of the pod whose names have this in them are sent along."""
REMEMBERED = 1024
TIMEOUT_S = 30.0
OFF = -1
LONGEST_TTL_S = 1800
LONGEST_BACKOFF_MS = 300_000
FIELDS = ("kubeConfigFile", "allowTTL", "denyTTL", "retryBackoff", "defaultAllow")


class ImagePolicy:
    """One webhook, and what it has said."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError for a configuration that is no good."""
        top = mapping(settings.raw, "", ("imagePolicy",))
        found = mapping(top.get("imagePolicy"), "imagePolicy", FIELDS)
        file = found.get("kubeConfigFile")
        if not isinstance(file, str) or not file:
            raise ValueError("imagePolicy.kubeConfigFile: Required value")
        self._target = target_of_kubeconfig(settings.folder / file)
        self._allowed_s = _number(found, "allowTTL", 300, LONGEST_TTL_S)
        self._denied_s = _number(found, "denyTTL", 30, LONGEST_TTL_S)
        self._pause_s = _number(found, "retryBackoff", 500, LONGEST_BACKOFF_MS) / 1000
        self._fails_open = found.get("defaultAllow") is True
        self._known: dict[bytes, tuple[Object, float]] = {}

    def validate(self, server: Server, write: Write) -> Awaitable[None] | None:
        """Asks only what is not known."""
        spec = _spec(write)
        key = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)
        known = self._known.get(key)
        if known is not None and server.clock.monotonic() < known[1]:
            _judge(write, known[0])
            return None
        return self._ask(server, write, spec, key)

    async def _ask(self, server: Server, write: Write, spec: Object, key: bytes) -> None:
        from ...webhooks.retrying import ask_again
        from ...webhooks.target import CallFailed

        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {}, "spec": spec}
        ask = partial(server.webhooks.post_json, self._target, body, TIMEOUT_S, tell_timeout=False)
        try:
            status = (await ask_again(ask, server.clock, self._pause_s)).get("status")
            if not isinstance(status, dict):
                raise CallFailed("the answer has no status")
        except CallFailed as error:
            if not self._fails_open:
                raise refuse(write, error.message) from None
            log.warning("image policy webhook: failing open: %s", error.message)
            write.annotate(AUDIT_PREFIX + FAILED_OPEN, "true")
            return
        lasts_s = self._allowed_s if status.get("allowed") is True else self._denied_s
        self._known.pop(key, None)
        if lasts_s:
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[key] = (status, server.clock.monotonic() + lasts_s)
        _judge(write, status)


def _spec(write: Write) -> Object:
    pod: Object = write.obj
    spec = pod.get("spec") or {}
    later = write.attributes.subresource == "ephemeralcontainers"
    lists = ("ephemeralContainers",) if later else ("containers", "initContainers")
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    out: Object = {
        "containers": [
            {"image": container.get("image") or ""}
            for field in lists
            for container in spec.get(field) or ()
        ],
        "namespace": write.attributes.namespace,
    }
    sent = {name: value for name, value in annotations.items() if FORWARDED in name}
    if sent:
        out["annotations"] = sent
    return out


def _judge(write: Write, status: Object) -> None:
    annotations = status.get("auditAnnotations")
    for name, value in (annotations if isinstance(annotations, dict) else {}).items():
        write.annotate(f"{AUDIT_PREFIX}{name}", str(value))
    if status.get("allowed") is True:
        return
    reason = status.get("reason")
    why = "one or more images rejected by webhook backend"
    if reason:
        why = f"image policy webhook backend denied one or more images: {reason}"
    raise refuse(write, why)


def _number(found: Any, field: str, usual: int, most: int) -> int:
    """0 for what is not to be remembered."""
    value = found.get(field) or usual
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"imagePolicy.{field}: must be a number")
    if value == OFF:
        return 0
    if not 0 < value <= most:
        raise ValueError(f"imagePolicy.{field}: valid value is between 1 and {most}, got {value}")
    return value


def make(settings: Settings) -> Plugin:
    """Raises ValueError for a configuration that is no good, or none."""
    on = {
        ("", "pods"): ("CREATE", "UPDATE"),
        ("", "pods/ephemeralcontainers"): ("CREATE", "UPDATE"),
    }
    return Plugin(settings.name, on, validate=ImagePolicy(settings).validate)
