"""Server-side apply (KEP-555): a configuration merged into an object, as one manager's word.

What the manager applied last and does not apply now is removed, unless somebody else owns it. A
field that another manager owns is taken only when it keeps its value, or by force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from msgspec import Struct

from sampan.api.descriptor import Descriptor
from sampan.api.errors import BadRequest, Cause, Conflict, Details, Object

from .entries import UPDATE, Who, arranged, owned_by
from .fieldsets import FieldSet, Path, common, minus, minus_below, path_text, paths, union
from .nodes import GONE, NOTHING, Fields, Untrackable
from .tracking import Changes, Convert, Dialect, Dialects, before_first_apply, without

KUBECTL = "kubectl"
"""The only manager whose client-side past is taken over by the server."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_ANNOTATIONS_BYTES = 256 * 1024


class Taken(NamedTuple):
    """A field that another manager holds with another value."""

    entry: Object
    path: Path


class Applied(NamedTuple):
    obj: Object
    """As it is to be stored, without managedFields."""
    entries: list[Object]


class Application(Struct, frozen=True):
    """One apply."""

    dialects: Dialects
    who: Who
    config: Object
    """Decoded, in the version applied; without what this endpoint resets."""
    owned: FieldSet
    """What the configuration sets, without what this endpoint resets."""
    reset: FieldSet
    """What this endpoint never writes."""
    force: bool
    now: str
    to_stored: Convert | None = None
    """From the version applied to the one stored, where they differ."""
    shown_version: str = ""
    """In conflicts, instead of the managers' own: that of a Scale."""

    @property
    def dialect(self) -> Dialect:
        found = self.dialects(self.who.api_version)
        assert found is not None
        return found


def owned_fields(plan: Fields, raw: Object, reset: FieldSet) -> FieldSet:
    """The set of a configuration as it was sent. Raises BadRequest for what has no place in the
    schema, or comes twice."""
    problems: list[str] = []
    plan.check(raw, "", problems)
    if problems:
        why = problems[0] if len(problems) == 1 else "\n  ".join(("errors:", *problems))
        raise BadRequest(f"failed to create typed patch object ({_describe(raw)}): {why}")
    try:
        return minus_below(plan.owned(raw) or {}, reset)
    except Untrackable as error:  # A value of another type than its schema's, deeper down.
        raise BadRequest(
            f"failed to create typed patch object ({_describe(raw)}): {error}"
        ) from None


def check_types(resource: Descriptor, raw: Object) -> None:
    """Say what of a refused configuration is of another type than its schema's, if that is why it
    was refused. Raises BadRequest."""
    from .mistakes import mistakes_in

    problems = mistakes_in(resource, raw)
    if problems:
        why = problems[0] if len(problems) == 1 else "\n  ".join(("errors:", *problems))
        raise BadRequest(f"failed to create typed patch object ({_describe(raw)}): {why}")


def _describe(obj: Object) -> str:
    """Upstream's objectGVKNN."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    place = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    return f"{place}; {group}/{version}, Kind={obj.get('kind', '')}"


def applied(apply: Application, old: Object, entries: list[Object]) -> Applied:
    """What `apply` makes of `old`, which is as it is stored. Shares with `old` and the
    configuration what it does not change. Raises Conflict, BadRequest."""
    dialect = apply.dialect
    shown = old if dialect.convert is None else dialect.convert(old)
    if not entries:
        entries = before_first_apply(dialect.plan, shown, apply.who.api_version, apply.now)
    mine, others = _split(entries, apply.who)
    try:
        new = _merged(apply, shown, mine, others)
        difference = dialect.plan.diff(shown, new)
    except Untrackable as error:
        why = f"failed to create typed live object ({_describe(old)}): {error}"
        raise BadRequest(why) from None
    stored = new if apply.to_stored is None else apply.to_stored(new)
    changes = Changes(apply.dialects, (old, stored), apply.who.api_version, difference)
    taken = _conflicts(others, changes)
    if taken and not apply.force:
        taken = _unforgiven(apply, shown, taken)
        if taken:
            raise conflict_of(taken, apply.shown_version)
    kept = [left for entry in others if (left := without(entry, changes.of(entry["apiVersion"])))]
    changed = difference != NOTHING
    return Applied(stored, _entries(apply, (mine, others, kept), entries, changed=changed))


def _split(entries: Sequence[Object], who: Who) -> tuple[Object | None, list[Object]]:
    mine = None
    others = []
    for entry in entries:
        if mine is None and who.is_entry(entry):
            mine = entry
        else:
            others.append(entry)
    return mine, others


def _entries(
    apply: Application,
    parts: tuple[Object | None, list[Object], list[Object]],
    entries: list[Object],
    *,
    changed: bool,
) -> list[Object]:
    mine, others, kept = parts
    same_set = (
        mine is not None
        and owned_by(mine) == apply.owned
        and mine["apiVersion"] == apply.who.api_version
    )
    if same_set and not changed and len(kept) == len(others):
        return entries
    out = list(kept)
    if apply.owned:
        stays = same_set and not changed
        time = mine.get("time", apply.now) if stays and mine is not None else apply.now
        out.append(apply.who.entry(apply.owned, time))
    return arranged(out)


def _merged(
    apply: Application, shown: Object, mine: Object | None, others: Sequence[Object]
) -> Object:
    """The configuration merged in, and what it no longer has taken out."""
    plan, version = apply.dialect.plan, apply.who.api_version
    metadata = {name: value for name, value in shown["metadata"].items() if name != "managedFields"}
    merged: Object = plan.merge({**shown, "metadata": metadata}, apply.config)
    if mine is None:
        return merged
    held = {version: apply.owned}
    for entry in others:
        spoken, owned = entry["apiVersion"], owned_by(entry)
        held[spoken] = union(held[spoken], owned) if spoken in held else owned
    last = minus_below(owned_by(mine), apply.reset)
    if len(held) == 1 and mine["apiVersion"] == version:
        return _identified(merged, plan.prune(merged, last, held[version]))
    return _pruned(apply, merged, (mine["apiVersion"], last), held)


def _pruned(
    apply: Application, merged: Object, last: tuple[str, FieldSet], held: Mapping[str, FieldSet]
) -> Object:
    """`merged` without what was applied `last`, in that version, but for what is `held` in any
    version: each looks at its own form of the object (structured-merge-diff's Updater.prune)."""
    before, gone = last
    pruned = merged
    for version in (before, *(name for name in held if name != before)):
        dialect = apply.dialects(version)
        if dialect is None:  # Not served any more: nobody can tell what its fields were.
            if version == before:
                return merged
            continue
        shown, kept = _turned(apply, dialect, merged), held.get(version) or {}
        if version != before:
            left = _turned(apply, dialect, pruned)
            _, removed = dialect.plan.diff(shown, left)
            if not removed:
                continue
            gone, kept = removed, union(dialect.plan.owned(left) or {}, kept)
        rest = dialect.plan.prune(shown, gone, kept)
        pruned = _identified(merged, _turned_back(apply, dialect, _identified(shown, rest)))
    return pruned


def _identified(whole: Object, rest: Any) -> Object:
    """What is left of an object, which keeps its identity."""
    kept: Object = {} if rest is GONE else rest
    return {name: whole[name] for name in ("apiVersion", "kind", "metadata")} | kept


def _turned(apply: Application, dialect: Dialect, obj: Object) -> Object:
    """An object of the version applied, as `dialect` shows it."""
    if dialect.by_name or dialect.plan is apply.dialect.plan:
        return obj
    stored = obj if apply.to_stored is None else apply.to_stored(obj)
    return stored if dialect.convert is None else dialect.convert(stored)


def _turned_back(apply: Application, dialect: Dialect, obj: Object) -> Object:
    if dialect.by_name or dialect.plan is apply.dialect.plan:
        return obj
    stored = obj if dialect.restore is None else dialect.restore(obj)
    convert = apply.dialect.convert
    return {**(stored if convert is None else convert(stored))}


def _conflicts(others: Sequence[Object], changes: Changes) -> list[Taken]:
    found = []
    for entry in others:
        difference = changes.of(entry["apiVersion"])
        if difference is not None and difference[0]:
            shared = common(owned_by(entry), difference[0])
            found += [Taken(entry, path) for path in paths(shared)] if shared else []
    return found


def _unforgiven(apply: Application, shown: Object, taken: list[Taken]) -> list[Taken]:
    """The conflicts that are not kubectl's own: fields it applied from the client, by the
    annotation it left, and that are as it left them, it may take over."""
    if apply.who.manager != KUBECTL:
        return taken
    allowed = _last_applied(apply, shown)
    if not allowed:
        return taken
    return [item for item in taken if not _has_path(allowed, item.path)]


def _has_path(fields: FieldSet, path: Path) -> bool:
    below: FieldSet | None = fields
    for name in path:
        below = below.get(name) if below is not None else None
    return below is not None and (not below or "." in below)


def _last_applied(apply: Application, shown: Object) -> FieldSet:
    text = (shown["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    if not text:
        return {}
    try:
        config = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(config, dict) or config.get("apiVersion") != apply.who.api_version:
        return {}
    plan = apply.dialect.plan
    try:
        allowed = plan.owned(config) or {}
        different, gone = plan.diff(config, shown)
    except Untrackable:
        return {}
    return minus(minus(allowed, different or {}), gone or {})


def sync_last_applied(apply: Application, raw: Object, new: Object) -> None:
    """Keep kubectl's annotation true after its server-side apply, so that it can go back."""
    annotations = new["metadata"].get("annotations") or {}
    if apply.who.manager != KUBECTL or not annotations.get(LAST_APPLIED):
        return
    metadata = dict(raw.get("metadata") or {})
    own = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != LAST_APPLIED}
    if own or "annotations" in metadata:
        metadata["annotations"] = own
    text = orjson.dumps({**raw, "metadata": metadata}, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    kept = {name: value for name, value in annotations.items() if name != LAST_APPLIED}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in kept.items())
    if size + len(LAST_APPLIED) + len(text.encode()) <= MAX_ANNOTATIONS_BYTES:
        kept[LAST_APPLIED] = text
    new["metadata"] = {**new["metadata"], "annotations": kept}


def conflict_of(taken: Sequence[Taken], shown_version: str = "") -> Conflict:
    """Upstream's conflict (internal/managedfields NewConflictError)."""
    causes = [
        Cause(
            path_text(path),
            f"conflict with {_printed(entry, shown_version)}",
            "FieldManagerConflict",
        )
        for entry, path in taken
    ]
    if len(taken) == 1:
        message = f"Apply failed with 1 conflict: {causes[0].text}: {causes[0].path}"
        return Conflict(message, Details(causes=causes))
    by_manager: dict[str, list[str]] = {}
    for entry, path in taken:
        by_manager.setdefault(_printed(entry, shown_version), []).append(path_text(path))
    lines = []
    for name in sorted(by_manager):
        lines.append(f"conflicts with {name}:")
        lines += [f"- {path}" for path in by_manager[name]]
    text = "\n".join(lines)
    return Conflict(f"Apply failed with {len(taken)} conflicts: {text}", Details(causes=causes))


def _printed(entry: Object, shown_version: str) -> str:
    text = f'"{entry.get("manager", "")}"'
    if entry.get("subresource"):
        text += f' with subresource "{entry["subresource"]}"'
    if entry["operation"] == UPDATE:
        text += f" using {shown_version or entry['apiVersion']}"
    return text


def first_applied(apply: Application) -> Applied:
    """What a configuration makes where there is nothing yet."""
    obj = apply.config if apply.to_stored is None else apply.to_stored(apply.config)
    entries = [apply.who.entry(apply.owned, apply.now)] if apply.owned else []
    return Applied(obj, entries)
