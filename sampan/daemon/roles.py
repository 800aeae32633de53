"""The first node's role: `kubectl get nodes` shows it as control-plane, as kind's and k3s's do.

An agent may not say so itself (NodeRestriction), so the control process does, when the Node appears
and again when it was deleted and made anew. Who removes the label meanwhile has it removed.
Task: one; queue: none, an event that the Node has appeared.
"""

from __future__ import annotations

import asyncio
import logging

from sampan.api.errors import Object, StatusError
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.informer import Informers

log = logging.getLogger("sampan.roles")

LABEL = "node-role.kubernetes.io/control-plane"


async def keep_role(client: Client, informers: Informers, name: str) -> None:
    """Until cancelled. A node that is gone again by then, or refused by a webhook, is left."""
    nodes = resource("nodes")
    appeared = asyncio.Event()

    def look(old: Object | None, new: Object | None) -> None:
        if old is None and new is not None and new["metadata"]["name"] == name:
            appeared.set()

    informers.informer(nodes).on_change(look)
    while True:
        await appeared.wait()
        appeared.clear()
        node = informers.informer(nodes).get("", name)
        if node is None or LABEL in node["metadata"].get("labels", ()):
            continue
        try:
            await client.patch(nodes, name, {"metadata": {"labels": {LABEL: ""}}})
        except StatusError as error:
            log.warning("node %s has no role: %s", name, error)
