"""Which objects belong to a workload: release those that no longer match, adopt orphans that do
(upstream's controller_ref_manager)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sampan.api.errors import NotFound, Object
from sampan.api.selectors import from_label_selector
from sampan.client.informer import Informer

from .owners import controller_reference, orphans, owned, with_owner, without_owner


async def claim(
    children: Informer,
    owners: Informer,
    owner: Object,
    adoptable: Callable[[Object], bool] = lambda _: True,
    finalizer: str = "",
) -> list[Object]:
    """What `owner` controls and selects, after releasing and adopting.

    With `finalizer`, what is adopted gets it and what is released loses it.

    `children` has the owner indexes. Every write is guarded by the version in the cache, so a
    race raises Conflict and the sync is tried again. Raises as the client does.
    """
    matches = from_label_selector(owner["spec"].get("selector")).matches
    going = bool(owner["metadata"].get("deletionTimestamp"))
    mine = []
    for child in owned(children, owner):
        if matches(child["metadata"].get("labels") or {}):
            mine.append(child)
        elif not going:
            released = without_owner(child, owner["metadata"]["uid"])
            await _write(children, _with_finalizers(released, {finalizer}, ()))
    if not going:
        added = (finalizer,) if finalizer else ()
        for child in await _candidates(children, owners, owner, adoptable):
            adopted = with_owner(child, controller_reference(owners.resource, owner))
            written = await _write(children, _with_finalizers(adopted, set(), added))
            if written is not None:
                mine.append(written)
    return mine


def _with_finalizers(child: Object, gone: set[str], added: Iterable[str]) -> Object:
    """A copy with other finalizers; the child itself if they are the same."""
    meta = child["metadata"]
    before = meta.get("finalizers") or []
    after = [item for item in before if item not in gone]
    after += [item for item in added if item not in after]
    return child if after == before else {**child, "metadata": {**meta, "finalizers": after}}


async def _candidates(
    children: Informer, owners: Informer, owner: Object, adoptable: Callable[[Object], bool]
) -> list[Object]:
    """Orphans that the owner may adopt."""
    selector = owner["spec"].get("selector") or {}
    matches = from_label_selector(selector).matches
    meta = owner["metadata"]
    candidates = [
        child
        for child in orphans(children, meta["namespace"], selector.get("matchLabels") or {})
        if not child["metadata"].get("deletionTimestamp")
        and adoptable(child)
        and matches(child["metadata"].get("labels") or {})
    ]
    if not candidates:
        return []
    # The cache may not know yet that the owner is going or gone (kubernetes#42639).
    live = await owners.get_live(meta["namespace"], meta["name"])
    if (
        live is None
        or live["metadata"]["uid"] != meta["uid"]
        or live["metadata"].get("deletionTimestamp")
    ):
        return []
    return candidates


async def _write(children: Informer, child: Object) -> Object | None:
    """Write new owners; None if the child is gone."""
    try:
        return await children.client.update(children.resource, child)
    except NotFound:
        return None
