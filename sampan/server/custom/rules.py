"""The rules of one version of a custom resource, in the form built-in kinds have theirs.

What is compiled from the schema is compiled at the first write or read that needs it, so that a
definition nobody uses costs its own size and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

from sampan.api.descriptor import Kind, ScalePaths
from sampan.api.discovery import rank
from sampan.api.errors import Cause, MethodNotAllowed, Object
from sampan.api.fields import quote
from sampan.api.meta import STANDARD_FINALIZERS
from sampan.api.structural.jsonpath import at, dotted

from .columns import cells_of, columns_of

MAX_REPLICAS = 2**31 - 1
NOT_WHILE_TERMINATING = "create not allowed while custom resource definition is terminating"
Selected = tuple[tuple[str, tuple[str, ...]], ...]


class Rules:
    """Compiled when first used: what the schema of a version says of its objects."""

    def __init__(
        self,
        version: Object,
        *,
        scale: ScalePaths | None,
        observe: Callable[[float], None] | None = None,
    ) -> None:
        self.schema: Object = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        self.scale = scale
        self.observe = observe
        """Told the seconds of each evaluation of a rule."""

    @cached_property
    def _defaulter(self) -> Any:
        from sampan.api.structural.defaults import defaulter

        return defaulter(self.schema)

    @cached_property
    def _objects(self) -> Any:
        from sampan.api.structural.objects import Objects

        return Objects(self.schema)

    @cached_property
    def pruner(self) -> Any:
        from sampan.api.structural.prune import pruner

        return pruner(self.schema)

    @property
    def has_defaults(self) -> bool:
        return self._defaulter is not None

    def default(self, obj: Object) -> None:
        """Set the schema's defaults in place."""
        if self._defaulter is not None:
            self._defaulter(obj)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        """A whole object, with what an update did not touch left alone."""
        causes: list[Cause] = self._objects.validate(obj, old)
        if self.scale is not None:
            causes += _check_replicas(obj, self.scale.spec_replicas)
            causes += _check_replicas(obj, self.scale.status_replicas)
        rules: list[Cause] = self._objects.validate_rules(obj, old, causes, self.observe)
        return causes + rules

    def validate_status(self, obj: Object, old: Object | None) -> list[Cause]:
        """A write of /status: only status is looked at."""
        causes: list[Cause] = self._objects.validate_status(obj, old)
        if self.scale is not None:
            causes += _check_replicas(obj, self.scale.status_replicas)
        rules: list[Cause] = self._objects.validate_rules(obj, old, causes, self.observe)
        return causes + rules


def _check_replicas(obj: Object, path: str) -> list[Cause]:
    """What a Scale shows must be a number of replicas, where it is set."""
    from sampan.api.fields import invalid

    value = at(obj, dotted(path))
    if value is None:
        return []
    if isinstance(value, bool) or not isinstance(value, int):
        return [invalid(path, value, f"{path} accessor error: {value} is not an int64")]
    if value < 0:
        return [invalid(path, value, "should be a non-negative integer")]
    if value > MAX_REPLICAS:
        return [invalid(path, value, f"should be less than or equal to {MAX_REPLICAS}")]
    return []


def kind_of(definition: Object, version: Object, rules: Rules, *, terminating: bool) -> Kind:
    """The Kind of a version."""
    names = definition["status"]["acceptedNames"]
    return Kind(
        group=definition["spec"]["group"],
        version=version["name"],
        kind=names["kind"],
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        default=rules.default,
        validate=rules.validate,
        validate_status=rules.validate_status,
        prepare=_refuse_new if terminating else None,
        warnings=doubt_finalizers,
        fields=partial(_selectable, _selected(version)),
        columns=columns_of(version),
        cells=cells_of(version),
        deprecated=deprecation(definition["spec"], version),
    )


def doubt_finalizers(obj: Object, old: Object | None) -> list[str]:
    """New finalizers that two writers might both come to use (registry/customresource/strategy)."""
    given = obj["metadata"].get("finalizers")
    if not given:
        return []
    before = (old or {"metadata": {}})["metadata"].get("finalizers") or ()
    return [
        f"metadata.finalizers: {quote(name)}: prefer a domain-qualified finalizer name including a "
        "path (/) to avoid accidental conflicts with other finalizer writers"
        for name in sorted({*given} - {*before} - STANDARD_FINALIZERS)
        if "/" not in name
    ]


def _refuse_new(obj: Object, old: Object | None) -> None:
    if old is None:
        raise MethodNotAllowed(NOT_WHILE_TERMINATING)


def _selected(version: Object) -> Selected:
    paths = [item["jsonPath"] for item in version.get("selectableFields") or ()]
    return tuple((path.removeprefix("."), dotted(path)) for path in paths)


def _selectable(selected: Selected, obj: Object) -> Mapping[str, str]:
    return {name: _text(at(obj, path)) for name, path in selected}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None or isinstance(value, dict | list) else str(value)


def deprecation(spec: Object, version: Object) -> str:
    """The warning of a deprecated version, "" for the others."""
    if not version.get("deprecated"):
        return ""
    given = version.get("deprecationWarning")
    if given is not None:
        return str(given)
    group, kind = spec["group"], spec["names"]["kind"]
    text = f"{group}/{version['name']} {kind} is deprecated"
    mine = rank(version["name"])
    better = sorted(
        (rank(other["name"]), other["name"])
        for other in spec["versions"]
        if other.get("served") and not other.get("deprecated") and rank(other["name"]) < mine
    )
    return f"{text}; use {group}/{better[0][1]} {kind}" if better else text
