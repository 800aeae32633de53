"""The entries of metadata.managedFields: who, by which operation, and which fields.

Managers are told apart as upstream does (internal/managedfields): by name, operation, subresource
and, for updates, version. At most `MAX_UPDATERS` entries of updates are kept per object; the
oldest of more are joined into one per version.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sampan.api.errors import Object

from .fieldsets import FieldSet, intern_set, is_readable, union

UPDATE: Final = "Update"
APPLY: Final = "Apply"
MAX_UPDATERS = 10
"""As upstream (DefaultMaxUpdateManagers)."""
OLD_UPDATERS: Final = "ancient-changes"
BEFORE_FIRST_APPLY: Final = "before-first-apply"
FIELDS_TYPE: Final = "FieldsV1"
MANAGER_LENGTH = 128


class Who(NamedTuple):
    """A manager in one role."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""

    def is_entry(self, entry: Object) -> bool:
        return (
            entry.get("manager", "") == self.manager
            and entry["operation"] == self.operation
            and entry.get("subresource", "") == self.subresource
            and (self.operation == APPLY or entry["apiVersion"] == self.api_version)
        )

    def entry(self, owned: FieldSet, time: str) -> Object:
        out: Object = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": time,
            "fieldsType": FIELDS_TYPE,
            "fieldsV1": intern_set(owned),
        }
        if self.subresource:
            out["subresource"] = self.subresource
        return out


def manager_name(field_manager: str, user_agent: str) -> str:
    """Who a request says it is: its fieldManager, or what its User-Agent begins with."""
    if field_manager:
        return field_manager
    name = user_agent.partition("/")[0]
    if not name.isprintable():
        name = "".join(letter for letter in name if letter.isprintable())
    while len(name.encode()) > MANAGER_LENGTH:
        name = name[:-1]
    return name or "unknown"


def owned_by(entry: Object) -> FieldSet:
    found: FieldSet = entry.get("fieldsV1") or {}
    return found


def with_owned(entry: Object, owned: FieldSet) -> Object:
    return {**entry, "fieldsV1": intern_set(owned)}


def arranged(entries: list[Object]) -> list[Object]:
    """In upstream's order: appliers before updaters, the oldest first; no more than are kept."""
    if len(entries) > MAX_UPDATERS:
        entries = _capped(entries)
    if len(entries) > 1:
        entries.sort(key=_order)
    return entries


def _order(entry: Object) -> tuple[str, str, str, str, str]:
    return (
        entry["operation"],
        entry.get("time") or "",
        entry.get("manager", ""),
        entry["apiVersion"],
        entry.get("subresource", ""),
    )


def _capped(entries: list[Object]) -> list[Object]:
    updaters = [entry for entry in entries if entry["operation"] == UPDATE]
    if len(updaters) <= MAX_UPDATERS:
        return entries
    updaters.sort(key=lambda entry: (entry.get("time") or "", *_order(entry)))
    left = len(updaters)
    first: dict[str, Object] = {}
    gone: list[Object] = []
    buckets = {
        entry["apiVersion"]: entry
        for entry in updaters
        if entry.get("manager") == OLD_UPDATERS and not entry.get("subresource")
    }
    for entry in updaters:
        if left <= MAX_UPDATERS:
            break
        version = entry["apiVersion"]
        if version not in first:
            first[version] = entry
            continue
        bucket = buckets.get(version)
        if bucket is entry:
            continue
        if bucket is None:
            bucket = first[version]
            gone.append(bucket)
        who = Who(OLD_UPDATERS, UPDATE, version)
        if bucket.get("manager") == OLD_UPDATERS and bucket not in gone:
            gone.append(bucket)
        joined = union(owned_by(entry), owned_by(bucket))
        # The time of the younger of the two, since it is when the entry last changed.
        buckets[version] = who.entry(joined, entry.get("time") or "")
        gone.append(entry)
        left -= 1
    dropped = {id(entry) for entry in gone}
    kept = [entry for entry in (*entries, *buckets.values()) if id(entry) not in dropped]
    return list({id(entry): entry for entry in kept}.values())


def is_reset(entries: Any) -> bool:
    """Does a client ask to forget who owns what? (An empty list, or one empty entry.)"""
    if not isinstance(entries, list):
        return False
    return not entries or (len(entries) == 1 and not entries[0])


def read_entries(entries: Any) -> list[Object] | None:
    """What a client sent as managedFields, with shared sets; None when it cannot be read."""
    if not isinstance(entries, list) or problem_of(entries):
        return None
    return [with_owned(entry, entry.get("fieldsV1") or {}) for entry in entries]


def problem_of(entries: list[Any]) -> str:
    """Why they cannot be read, in upstream's words; "" when they can."""
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or entry.get("operation") not in (APPLY, UPDATE):
            return "operation must be `Apply` or `Update`"
        if not entry.get("apiVersion"):
            return "apiVersion must not be empty"
        kind = entry.get("fieldsType")
        if not kind:
            return f"missing fieldsType in managed fields entry {position}"
        if kind != FIELDS_TYPE:
            return f'invalid fieldsType "{kind}" in managed fields entry {position}'
        if not is_readable(entry.get("fieldsV1") or {}):
            return f"error decoding versioned set from managed fields entry {position}"
    return ""
