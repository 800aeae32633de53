"""The seam between writes and ownership: which plan, which manager, which entries."""

from __future__ import annotations

from functools import cache
from operator import is_
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sampan.api import schema
from sampan.api.descriptor import STATUS_ALONE, Descriptor, Structure
from sampan.api.errors import Object

from ..conversion import View, view_of
from .entries import UPDATE, Who, is_reset, owned_by, read_entries, with_owned
from .fieldsets import LEAF, FieldSet
from .plans import plan_of
from .tracking import Dialect, Dialects, created, updated

if TYPE_CHECKING:
    from ..writing import Context


def who_of(context: Context, operation: str = UPDATE) -> Who:
    """The manager that a write is by."""
    return Who(
        context.options.manager,
        operation,
        context.asked.api_version,
        context.attributes.subresource,
    )


def dialects_of(context: Context) -> Dialects:
    """How objects, as they are stored, look in the versions that managers own fields of."""
    asked, hub = context.asked, context.resource
    custom = asked.custom is not None
    mine = _dialect(asked, context.view)

    def find(api_version: str) -> Dialect | None:
        if api_version == asked.api_version:
            return mine
        if api_version == hub.api_version:
            return Dialect(plan_of(hub))
        group, _, version = api_version.rpartition("/")
        other = context.server.resources.find(group, version, asked.plural)
        if other is None:
            return None
        if custom:
            # A version made by a webhook is compared as far as names agree: a call for each
            # manager's version would be made by every write.
            view = view_of(other)
            convert = None if view is None else view.glance or view.from_hub
            return Dialect(plan_of(other), convert, by_name=True)
        return _dialect(other, view_of(other))

    return find


def _dialect(resource: Descriptor, view: View | None) -> Dialect:
    if view is None:
        return Dialect(plan_of(resource))
    return Dialect(plan_of(resource), view.from_hub, view.to_hub)


def entries_of(context: Context, old: Object) -> list[Object]:
    """The entries of a stored object, as the schema of now has them: that of a custom resource may
    have changed since they were made."""
    entries: list[Object] = old["metadata"].get("managedFields") or []
    if context.asked.structure is None or not entries:
        return entries
    find = dialects_of(context)
    out = []
    for entry in entries:
        dialect = find(entry["apiVersion"])
        owned = owned_by(entry)
        settled = owned if dialect is None else dialect.plan.settle(owned)
        out.append(entry if settled is owned else with_owned(entry, settled))
    # The list itself stays what it is when none of its entries changes.
    return entries if all(map(is_, out, entries)) else out


def record_created(context: Context, obj: Object) -> None:
    """Write down who makes `obj`, which has its defaults and nothing yet that admission adds."""
    metadata = obj["metadata"]
    given = read_entries(metadata.pop("managedFields", None)) or []
    shown = context.shown(obj)
    now = context.server.timestamp()
    reset = reset_of(context.asked, "")
    if reset:
        shown = {name: value for name, value in shown.items() if f"f:{name}" not in reset}
    entries = created(plan_of(context.asked), shown, who_of(context), now, given)
    if entries:
        metadata["managedFields"] = entries


def record_updated(context: Context, old: Object, new: Object) -> None:
    """Write down who changes `old` to `new`. What the endpoint resets is as it was already."""
    subresource = context.attributes.subresource
    metadata = new["metadata"]
    entries = entries_of(context, old)
    given = metadata.pop("managedFields", entries)
    mine = context.says_managers and not subresource
    if mine and given is not entries and given is not None and given != entries:
        # Who knows managedFields may change them; who does not must not lose them by accident.
        read = [] if is_reset(given) else read_entries(given)
        entries = read if read is not None and (read or is_reset(given)) else entries
    if entries:
        who = who_of(context)
        entries = updated(
            dialects_of(context), entries, (old, new), who, context.server.timestamp()
        )
    if entries:
        metadata["managedFields"] = entries


def reset_of(resource: Descriptor, subresource: str) -> FieldSet:
    """What writes to an endpoint never change, so that nobody owns it by them (upstream's
    GetResetFields): status by the object itself, everything else by status."""
    if not subresource:
        return STATUS if resource.has_status else {}
    if subresource != "status":
        return {}
    structure = resource.structure
    if structure is None:
        return _reset_by_status(resource.definition, tuple(resource.rules.status_keeps))
    made = _resets.get(structure)
    if made is None:
        names = {*structure.schema.get("properties", {}), "metadata", "spec"} - {"status"}
        made = _resets[structure] = _fields(names)
    return made


STATUS: FieldSet = {"f:status": LEAF}
_resets: WeakKeyDictionary[Structure, FieldSet] = WeakKeyDictionary()
"""Of custom resources; gone with the definition, which a cache by arguments would keep alive."""


@cache
def _reset_by_status(definition: str, keeps: tuple[str, ...]) -> FieldSet:
    shape = schema.definitions().get(definition, {})
    made = _fields(set(shape.get("properties", {})) - {"status", "metadata"})
    if keeps:
        # Whose metadata status leaves alone altogether, resets all of it.
        made["f:metadata"] = LEAF if keeps == STATUS_ALONE else _fields(set(keeps))
    return made


def _fields(names: set[str]) -> FieldSet:
    return {f"f:{name}": LEAF for name in sorted(names - {"apiVersion", "kind"})}
