"""ResourceQuota: what a namespace may have, charged before it is stored.

A write is charged to every quota it concerns by a guarded update of the quota's status, computed
from the newest state, durable or not: writers that come together follow each other on the quota
itself, so it is never exceeded. The quota's write is in the journal before the object's. A charge
whose object was not stored after all is found by the quota controller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sampan.api.errors import NotFound, Object
from sampan.api.quota.amounts import Amounts, mask, read, subtract, texts
from sampan.api.quota.check import (
    Asking,
    Refused,
    asking,
    charge,
    check_limited,
    limited_of,
    pertinent,
)
from sampan.api.quota.evaluators import evaluator_of
from sampan.api.resources import resource

from ..exchange import Write
from .configuration import settings_of, versioned
from .plugin import EVERYTHING, Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

RESIZE = "resize"
CONFIGURATION = "apiserver.config.k8s.io/v1"


class Quotas:
    """Names of the quotas there are, by namespace, and what the configuration limits."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._names: dict[str, dict[str, None]] = {}
        self.limited = tuple(map(limited_of, _limited(server)))

    def start(self) -> None:
        self._server.observe(resource("resourcequotas"), self._changed)

    @property
    def some(self) -> bool:
        return bool(self._names or self.limited)

    def of(self, namespace: str) -> list[Object]:
        """The quotas of a namespace as they are stored, by name."""
        find, quotas = self._server.find_object, resource("resourcequotas")
        found = (find(quotas, namespace, name) for name in sorted(self._names.get(namespace, ())))
        return [quota for quota in found if quota is not None]

    def _changed(self, event: str, obj: Object, old: Object | None) -> None:
        had, metadata = self.some, obj["metadata"]
        names = self._names.setdefault(metadata["namespace"], {})
        if event == "DELETED":
            names.pop(metadata["name"], None)
            if not names:
                del self._names[metadata["namespace"]]
        else:
            names[metadata["name"]] = None
        if had != self.some:
            self._server.admission.forget()


def _limited(server: Server) -> Sequence[Mapping[str, object]]:
    """The limitedResources of the server's configuration or the administrator's. Raises
    ValueError."""
    settings = settings_of(server.config.folder, "ResourceQuota")
    found = versioned(settings, CONFIGURATION, "ResourceQuotaConfiguration", ("limitedResources",))
    items = found.get("limitedResources") or ()
    if not all(isinstance(item, dict) for item in items):
        raise ValueError("limitedResources: must be a list of objects")
    return (*server.config.quota_limited, *items)


async def validate(server: Server, write: Write) -> None:
    """Charge what is created, or what grew."""
    attributes = write.attributes
    target, namespace = attributes.resource, attributes.namespace
    if target is None or not target.namespaced or attributes.subresource not in ("", RESIZE):
        return
    evaluator = evaluator_of(target.group, target.plural)
    if evaluator is None:
        return
    if write.operation not in evaluator.on and attributes.subresource != RESIZE:
        return
    quotas = server.admission.quotas.of(namespace)
    limited = server.admission.quotas.limited
    if not quotas and not limited:
        return
    try:
        ask = asking(evaluator, write.obj, write.old, server.clock.now())
        concerned = [quota for quota in quotas if pertinent(quota, ask)]
        if not ask.delta:
            return
        check_limited(limited, quotas, ask)
        # Refused by the last of several quotas, nothing is charged to the others.
        for quota in concerned:
            charge(quota, ask.delta)
        if not write.dry_run:
            await _charge(server, namespace, concerned, ask)
    except Refused as error:
        raise refuse(write, str(error)) from None


async def _charge(server: Server, namespace: str, quotas: Sequence[Object], ask: Asking) -> None:
    """Charge all of them, or none. Raises Refused."""
    done: list[str] = []
    for quota in quotas:
        hard = quota["status"].get("hard") or {}
        if not mask(ask.delta, hard):
            continue
        name = quota["metadata"]["name"]
        try:
            await _write(server, namespace, name, ask.delta)
        except NotFound:
            continue
        except Refused:
            for earlier in done:
                await _write(server, namespace, earlier, ask.delta, back=True)
            raise
        done.append(name)


async def _write(
    server: Server, namespace: str, name: str, delta: Amounts, *, back: bool = False
) -> None:
    def change(quota: Object) -> Object:
        status = quota.setdefault("status", {})
        if back:
            used = read(status.get("used"))
            status["used"] = texts(subtract(used, mask(delta, used)))
        else:
            status["used"] = charge(quota, delta)
        return quota

    await server.update_object(
        resource("resourcequotas"), namespace, name, change, subresource="status"
    )


def _active(server: Server) -> bool:
    return server.admission.quotas.some


PLUGIN = Plugin(
    "ResourceQuota",
    {EVERYTHING: ("CREATE", "UPDATE")},
    validate=validate,
    active=_active,
)
