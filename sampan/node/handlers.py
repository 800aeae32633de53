"""Runtime classes (KEP-585): which handler a pod asks for, and whether the node has it."""

from __future__ import annotations

from sampan.api.errors import NotFound, Object
from sampan.api.resources import api_resource
from sampan.client.api import Client

HANDLERS = ("crun", "runc")
"""What classes may name: all are the one runtime, and charts that ask for runc by name mean it."""


class NoHandler(Exception):
    """The pod's class names a handler that the node does not have."""


async def check_handler(client: Client, pod: Object) -> None:
    """Raises NoHandler with upstream's text; StatusError and OSError when nobody can say."""
    name = pod["spec"].get("runtimeClassName")
    if not name:
        return
    try:
        found = await client.get(api_resource("runtimeclasses", "node.k8s.io"), name)
    except NotFound:
        raise NoHandler(f'RuntimeClass "{name}" not found') from None
    handler = str(found.get("handler") or "")
    if handler not in HANDLERS:
        text = f'no runtime for "{handler}" is configured'
        raise NoHandler(f"failed to get sandbox runtime: {text}")
