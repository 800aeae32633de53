"""May this write be charged to its quotas? (plugin/resourcequota/controller CheckRequest)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from ..errors import Object
from .amounts import Amounts, add, changed, mask, read, shown, subtract, texts
from .evaluators import Evaluator
from .scopes import Requirement, requirement, requirements_of


class Refused(Exception):
    """The write is forbidden; the text is upstream's."""


class Limited(Struct, frozen=True):
    """What may only be used under a quota that covers it (LimitedResource of the plugin's
    configuration)."""

    group: str
    plural: str
    contains: Sequence[str] = ()
    scopes: Sequence[Requirement] = ()


def limited_of(raw: Mapping[str, object]) -> Limited:
    """One of the configuration's limitedResources."""
    scopes = raw.get("matchScopes") or ()
    contains = raw.get("matchContains") or ()
    assert isinstance(scopes, Sequence)
    assert isinstance(contains, Sequence)
    return Limited(
        str(raw.get("apiGroup") or ""),
        str(raw.get("resource") or ""),
        tuple(map(str, contains)),
        tuple(map(requirement, scopes)),
    )


class Asking(Struct, frozen=True):
    """A write that wants to be charged."""

    evaluator: Evaluator
    obj: Object
    delta: Amounts
    """What it adds; without zeros."""


def asking(evaluator: Evaluator, obj: Object, old: Object | None, now_s: float) -> Asking:
    """Raises Refused for usage below zero."""
    used = evaluator.usage(obj, now_s)
    below = sorted(name for name, amount in used.items() if amount.nanos < 0)
    if below:
        raise Refused(f"quota usage is negative for resource(s): {','.join(below)}")
    if old is not None:
        used = subtract(used, evaluator.usage(old, now_s))
    return Asking(evaluator, obj, changed(used))


def pertinent(quota: Object, ask: Asking) -> bool:
    """Does the quota have to be charged? Raises Refused for what its constraints refuse."""
    evaluator = ask.evaluator
    if not evaluator.applies(quota, ask.obj):
        return False
    name, status = quota["metadata"]["name"], quota.get("status") or {}
    names = evaluator.matching(status.get("hard") or {})
    if evaluator.constraint is not None:
        missing = evaluator.constraint(ask.obj, names)
        if missing:
            raise Refused(f"failed quota: {name}: must specify {missing}")
    used = status.get("used") or {}
    if any(item not in used for item in names):
        raise Refused(f"status unknown for quota: {name}, resources: {','.join(sorted(names))}")
    return True


def charge(quota: Object, delta: Amounts) -> dict[str, str]:
    """What the quota's status.used becomes. Raises Refused when it would be exceeded."""
    status = quota["status"]
    hard, used = read(status.get("hard")), read(status.get("used"))
    wanted = mask(delta, hard)
    total = add(used, wanted)
    over = [name for name in wanted if total[name].nanos > hard[name].nanos]
    if over:
        raise Refused(
            f"exceeded quota: {quota['metadata']['name']}, requested: {shown(mask(wanted, over))}, "
            f"used: {shown(mask(used, over))}, limited: {shown(mask(hard, over))}"
        )
    return texts(total)


def check_limited(limits: Sequence[Limited], quotas: Sequence[Object], ask: Asking) -> None:
    """Is everything that is limited by default covered by a quota? Raises Refused."""
    evaluator = ask.evaluator
    own = [
        item for item in limits if (item.group, item.plural) == (evaluator.group, evaluator.plural)
    ]
    if not own:
        return
    covered = {
        name
        for quota in quotas
        if evaluator.applies(quota, ask.obj)
        for name in evaluator.matching((quota.get("status") or {}).get("hard") or {})
    }
    restricted = {
        name
        for item in own
        for name, amount in ask.delta.items()
        if amount.nanos > 0 and any(part in name for part in item.contains)
    }
    bare = sorted(restricted - covered)
    if bare:
        raise Refused(f"insufficient quota to consume: {','.join(bare)}")
    met = {
        scope.name
        for quota in quotas
        for scope in requirements_of(quota)
        if evaluator.meets(ask.obj, scope)
    }
    scopes = [
        scope
        for item in own
        for scope in item.scopes
        if evaluator.meets(ask.obj, scope) and scope.name not in met
    ]
    if scopes:
        raise Refused(f"insufficient quota to match these scopes: [{' '.join(map(str, scopes))}]")
