"""Revisions of a pod template, kept as ControllerRevisions (upstream's pkg/controller/history).

A revision holds a strategic merge patch that puts the template back: what `kubectl rollout undo`
sends. Work per sync is that of the workload's own revisions; there are at most its history limit
of them and those its pods still have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from sampan.api.descriptor import Descriptor
from sampan.api.errors import AlreadyExists, NotFound, Object, conflict
from sampan.api.resources import resource
from sampan.client.api import Client

from .owners import controller_of, controller_reference

REVISION_LABEL = "controller-revision-hash"
"""Of pods: the revision they were made from."""
HASH_LABEL = "controller.kubernetes.io/hash"
"""Of revisions: the hash of their data."""
PREFIX_LENGTH = 223
"""Of a revision's name: a name's 253 characters without the hash."""
# rand.SafeEncodeString's letters: no vowels, no 0, 1 or 3, so that no hash spells a word.
LETTERS = "bcdfghjklmnpqrstvwxz2456789"
# What Go's JSON escapes and orjson does not; the hash is of Go's text.
ESCAPED = {b"<": b"\\u003c", b">": b"\\u003e", b"&": b"\\u0026"}
# Members that Go's PodSpec always writes.
ALWAYS_WRITTEN = ("containers", "initContainers")


def revisions_resource() -> Descriptor:
    return resource("controllerrevisions", "apps")


def template_data(template: Object) -> Object:
    """The patch that puts this template back, with the members and the order Go writes."""
    spec = dict(template.get("spec") or {})
    for kind in ALWAYS_WRITTEN:
        if spec.get(kind):
            spec[kind] = [{"resources": {}, **container} for container in spec[kind]]
    body = {"metadata": template.get("metadata") or {}, "spec": spec, "$patch": "replace"}
    return {"spec": {"template": _ordered({**template, **body})}}


def _ordered(value: Any) -> Any:
    """Members by name, none of them null."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value) if value[key] is not None}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return value


def data_hash(data: Object, collisions: int) -> str:
    """FNV-1 over the data's JSON and the number of collisions, in letters that spell no word."""
    text = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    for plain, escaped in ESCAPED.items():
        text = text.replace(plain, escaped)
    digest = 2166136261
    for byte in text + str(collisions).encode():
        digest = ((digest * 16777619) & 0xFFFFFFFF) ^ byte
    return "".join(LETTERS[ord(letter) % len(LETTERS)] for letter in str(digest))


def same_data(left: Object, right: Object) -> bool:
    """Do two revisions, or their data, hold the same template? Absent and empty are the same, so
    that a field that gets a default later makes no rollout."""
    one, other = left.get("data", left), right.get("data", right)
    return bool(one == other or _full(one) == _full(other))


def _full(value: Any) -> Any:
    """Without empty members; those that mean something by being there are kept."""
    if isinstance(value, dict):
        found = {key: _full(item) for key, item in value.items()}
        return {
            key: item
            for key, item in found.items()
            if item is not None and (key in MEANINGFUL or item not in ({}, []))
        }
    if isinstance(value, list):
        return [_full(item) for item in value]
    return value


# An emptyDir, a selector or a namespace selector that is empty is not one that is absent.
MEANINGFUL = frozenset({"emptyDir", "labelSelector", "namespaceSelector", "medium"})


def template_of(revision: Object) -> Object:
    """The template a revision puts back."""
    template = dict(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    return template


def in_order(revisions: Iterable[Object]) -> list[Object]:
    """The oldest first (upstream's byRevision)."""
    return sorted(
        revisions,
        key=lambda item: (
            number(item),
            item["metadata"].get("creationTimestamp") or "",
            item["metadata"]["name"],
        ),
    )


def number(revision: Object) -> int:
    return int(revision.get("revision") or 0)


def next_number(revisions: Iterable[Object]) -> int:
    return max(map(number, revisions), default=0) + 1


def newest_equal(revisions: Iterable[Object], data: Object) -> Object | None:
    """The newest revision with this data; None if there is none."""
    found = [item for item in in_order(revisions) if same_data(item, data)]
    return found[-1] if found else None


def new_revision(
    parent: Descriptor, owner: Object, data: Object, labels: Mapping[str, str], collisions: int
) -> Object:
    """A revision of `owner`, still without a number. `labels` are those of its template."""
    digest = data_hash(data, collisions)
    meta = owner["metadata"]
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta['name'][:PREFIX_LENGTH]}-{digest}",
            "namespace": meta["namespace"],
            "labels": {**labels, HASH_LABEL: digest},
            "ownerReferences": [controller_reference(parent, owner)],
        },
        "data": data,
    }
    if meta.get("annotations"):
        body["metadata"]["annotations"] = dict(meta["annotations"])
    return body


def surplus(
    revisions: Sequence[Object], live: Iterable[str], limit: int, *, live_counts: bool
) -> list[Object]:
    """Revisions beyond the history limit, the oldest first; never one whose name is in `live`.

    `live_counts`: do live ones use up the limit (DaemonSets) or come on top (StatefulSets)? A
    negative limit keeps all.
    """
    kept = frozenset(live)
    ordered = in_order(revisions)
    dead = [item for item in ordered if item["metadata"]["name"] not in kept]
    excess = (len(ordered) if live_counts else len(dead)) - limit
    return dead[:excess] if limit >= 0 and excess > 0 else []


async def create(client: Client, body: Object) -> Object | None:
    """Store a revision. One with its name and data is it, stored before a crash; None if another
    template, or a workload of another kind, has taken the name: hash again with one collision
    more. Raises as the client does."""
    meta = body["metadata"]
    kind = revisions_resource()
    try:
        return await client.create(kind, body, meta["namespace"])
    except AlreadyExists:
        live = await client.get(kind, meta["name"], meta["namespace"])
    if not same_data(live, body):
        return None
    owner, wanted = controller_of(live), controller_of(body)
    if owner is not None and wanted is not None:
        if owner["uid"] == wanted["uid"]:
            return live
        if (owner["kind"], owner["name"]) != (wanted["kind"], wanted["name"]):
            return None
    if owner is not None or live["metadata"].get("deletionTimestamp"):
        # Of an earlier workload of this name, that is gone: it goes soon.
        raise conflict("apps", "controllerrevisions", meta["name"], "it belongs to another owner")
    references = [*(live["metadata"].get("ownerReferences") or ()), *meta["ownerReferences"]]
    return await client.update(
        kind, {**live, "metadata": {**live["metadata"], "ownerReferences": references}}
    )


async def renumber(client: Client, revision: Object, value: int) -> Object:
    """Make it the newest: what a rollback does. Raises as the client does."""
    return await client.update(revisions_resource(), {**revision, "revision": value})


async def remove(client: Client, revision: Object) -> None:
    """Delete a revision that nobody has changed meanwhile."""
    meta = revision["metadata"]
    options = {"preconditions": {"uid": meta["uid"]}}
    try:
        await client.delete(revisions_resource(), meta["name"], meta["namespace"], options)
    except NotFound:
        return
