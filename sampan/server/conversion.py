"""Resources served in more than one version: one is stored (the hub), the others are views of it.

Conversions are pure functions on objects, which the kinds have; they share what they do not change
and never touch what they are given. Events are one store for both groups, as upstream;
HorizontalPodAutoscalers are stored as autoscaling/v2, and what v1 has no field for travels in
upstream's annotations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache

from msgspec import Struct

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.resources import resource as find_resource

Convert = Callable[[Object], Object]

VIEWED = frozenset({
    ("events.k8s.io", "v1", "events"),
    ("autoscaling", "v1", "horizontalpodautoscalers"),
})  # fmt: skip
"""Those of the built-in resources whose kinds say `stored_as`: kinds are loaded when they are first
used, so that they cannot be asked here."""


class View(Struct, frozen=True):
    """How a version that is not stored relates to the one that is."""

    group: str
    version: str
    """Of the hub; the plural is the same."""
    from_hub: Convert
    to_hub: Convert
    prepare: Callable[[Callable[[], list[Object]]], Awaitable[None]] | None = None
    """Where `from_hub` takes a call out of the server, this must have been awaited for the
    objects it will get."""
    glance: Convert | None = None
    """What selectors look at, where `from_hub` needs preparation."""


def view_of(resource: Descriptor) -> View | None:
    """The view that `resource` is, None when it is stored as it is."""
    if resource.custom is not None:
        view: View | None = resource.custom.codec.view
        return view
    key = (resource.group, resource.version, resource.plural)
    return _builtin(*key) if key in VIEWED else None


@cache
def _builtin(group: str, version: str, plural: str) -> View:
    rules = find_resource(plural, group, version).rules
    assert rules.stored_as is not None
    assert rules.from_stored is not None
    assert rules.to_stored is not None
    return View(*rules.stored_as, rules.from_stored, rules.to_stored)


def glance_of(resource: Descriptor) -> Convert | None:
    """What shows stored objects of a custom resource in the version of `resource`, at once; None
    where they are stored so."""
    view = view_of(resource) if resource.custom is not None else None
    return None if view is None else view.glance or view.from_hub


def written_as(resource: Descriptor) -> View | None:
    """The view by whose hub a write of `resource` goes. None for custom resources too: each of
    their versions has rules of its own, and only bytes are converted (`custom.codec`)."""
    return None if resource.custom is not None else view_of(resource)


def hub_of(resource: Descriptor, view: View | None) -> Descriptor:
    """The descriptor that is stored."""
    if view is None:
        return resource
    return find_resource(resource.plural, view.group, view.version)
