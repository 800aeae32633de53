"""Where the data of a snapshot is, for a claim that begins with it. Loaded with the first."""

from __future__ import annotations

from sampan.api.errors import NotFound, Object
from sampan.client.api import Client

from .localvolumes_plan import Origin
from .runtime.nodecalls import Unprovisioned
from .snapshots_plan import CONTENTS, SNAPSHOTS, unusable


async def snapshot_origin(client: Client, claim: Object, name: str) -> Origin:
    """Asked of the server, not of a cache. Raises Unprovisioned, and what the client raises."""
    try:
        snapshot = await client.get(SNAPSHOTS, name, claim["metadata"]["namespace"])
    except NotFound as error:
        raise Unprovisioned(f"error getting snapshot {name} from api server: {error}") from None
    status = snapshot.get("status") or {}
    bound, content = status.get("boundVolumeSnapshotContentName"), None
    if bound:
        try:
            content = await client.get(CONTENTS, bound)
        except NotFound:
            content = None
    why = unusable(snapshot, content, claim)
    if why or content is None:
        raise Unprovisioned(why)
    node, _, copy = content["status"]["snapshotHandle"].partition("/")
    return Origin("snapshot", node, copy)
