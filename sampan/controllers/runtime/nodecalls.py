"""Questions to a node's agent about the directories of class `standard`."""

from __future__ import annotations

import orjson

from sampan.api.errors import InternalError, Object

from .controller import Options

SIMULATED = "simulated://"
MADE_UP = "/var/lib/sampan/storage"
"""Where the volumes of simulated nodes say they are."""


class Unprovisioned(InternalError):
    """The node could not make or remove the directory; tried again later."""


async def ask_node(options: Options, node: Object, method: str, name: str, query: str = "") -> str:
    """Make (PUT) or remove (DELETE) a volume or a snapshot; returns the directory's path. Nodes
    without agents have nothing to ask. Raises Unprovisioned."""
    info = (node.get("status") or {}).get("nodeInfo") or {}
    call = options.node_call
    if call is None or info.get("containerRuntimeVersion", "").startswith(SIMULATED):
        return f"{MADE_UP}/{name}"
    status, text = await call(node["metadata"]["name"], method, f"/volumes/{name}{query}")
    if status != 200:
        raise Unprovisioned(text.strip() or f"the node answered {status}")
    return str(orjson.loads(text)["path"])
