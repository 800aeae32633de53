"""DeleteOptions of a request, from its body or, without one, from its query.

Checks are those of meta/v1 ValidateDeleteOptions, errors included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from sampan.api import fields
from sampan.api.errors import BadRequest, Cause, Object, invalid

from .body import json_kind
from .exchange import Request
from .listoptions import flag, parse_int64

META_GROUP = "meta.k8s.io"
PROPAGATION = ("Foreground", "Background", "Orphan")
UNREADABLE = "ignoreStoreReadErrorWithClusterBreakingPotential"
ALONE = ("dryRun", "propagationPolicy", "orphanDependents", "gracePeriodSeconds", "preconditions")
"""What cannot be said together with `UNREADABLE`."""

_TYPES: Mapping[str, tuple[type, str]] = {
    "gracePeriodSeconds": (int, "int64"),
    "propagationPolicy": (str, "v1.DeletionPropagation"),
    "orphanDependents": (bool, "bool"),
    "preconditions": (dict, "v1.Preconditions"),
    "dryRun": (list, "[]string"),
    UNREADABLE: (bool, "bool"),
}
"""Fields by what JSON must give, and Go's name for it."""


class DeleteOptions(Struct, frozen=True):
    """What a deletion is asked to do. `raw` is the object, for admission."""

    grace_s: int | None = None
    propagation: str = ""
    dry_run: bool = False
    uid: str | None = None
    """Precondition, None for none."""
    resource_version: str | None = None
    dependents_go: bool = False
    """Said by the old orphanDependents=false: a deletion that takes time is answered with 202."""
    raw: Mapping[str, Any] = field(default_factory=dict)


def delete_options(request: Request, body: Any) -> DeleteOptions:
    """The options of a request. A body says everything: then the query says nothing, as upstream.
    Raises BadRequest, Invalid."""
    if body is not None:
        if not isinstance(body, dict):
            raise BadRequest("the object provided is unrecognized (must be of type DeleteOptions)")
        kind = body.get("kind") or "DeleteOptions"
        if kind != "DeleteOptions":
            raise BadRequest(f"{kind} cannot be handled as a DeleteOptions: no such conversion")
        return parse_delete_options(body)
    return parse_delete_options(_queried(request) if request.query else {})


def _queried(request: Request) -> Object:
    raw: Object = {}
    if grace := request.query.get("gracePeriodSeconds"):
        raw["gracePeriodSeconds"] = parse_int64(grace[0])
    if policy := request.query.get("propagationPolicy"):
        raw["propagationPolicy"] = policy[0]
    for name in ("orphanDependents", UNREADABLE):
        said = flag(request, name)
        if said is not None:
            raw[name] = said
    if dry := request.query.get("dryRun"):
        raw["dryRun"] = list(dry)
    return raw


def parse_delete_options(raw: Object) -> DeleteOptions:
    """Check a DeleteOptions object; raises BadRequest for types, Invalid for values."""
    _check_types(raw)
    grace_s, policy = raw.get("gracePeriodSeconds"), raw.get("propagationPolicy")
    orphan, preconditions = raw.get("orphanDependents"), raw.get("preconditions") or {}
    dry_run = raw.get("dryRun") or []
    causes = _causes(raw, policy, orphan, dry_run)
    if causes:
        raise invalid(META_GROUP, "DeleteOptions", "", causes)
    if policy is None and orphan is not None:
        policy = "Orphan" if orphan else "Background"
    return DeleteOptions(
        grace_s=grace_s,
        propagation=policy or "",
        dry_run=bool(dry_run),
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
        dependents_go=orphan is False,
        raw=raw,
    )


def _check_types(raw: Object) -> None:
    for name, (wanted, go_type) in _TYPES.items():
        value = raw.get(name)
        if value is None or type(value) is wanted:
            continue
        raise BadRequest(
            f"json: cannot unmarshal {json_kind(value)} into Go struct field "
            f"DeleteOptions.{name} of type {go_type}"
        )


def _causes(
    raw: Object, policy: str | None, orphan: bool | None, dry_run: list[Any]
) -> list[Cause]:
    causes = []
    if policy is not None and orphan is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        causes.append(fields.invalid("propagationPolicy", policy, why))
    if policy is not None and policy not in PROPAGATION:
        causes.append(fields.not_supported("propagationPolicy", policy, (*PROPAGATION, "nil")))
    if any(value != "All" for value in dry_run):
        causes.append(fields.not_supported("dryRun", dry_run, ("All",)))
    if raw.get(UNREADABLE):
        # Every object of this store can be read, or the server does not start: it deletes as ever.
        causes += [
            fields.invalid(UNREADABLE, True, f"cannot be set together with .{name}")
            for name in ALONE
            if raw.get(name) not in (None, [])
        ]
    return causes
