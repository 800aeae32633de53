"""Label and field selectors of a request, and the objects they pick.

Equality requirements are looked up in the cache's indexes, so that the cost of a list by label is
what it gives, not what there is. The rest of a selector is checked on the candidates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from sampan.api import selectors
from sampan.api.descriptor import Descriptor
from sampan.api.errors import BadRequest, Object

from .conversion import View, view_of
from .exchange import Request

if TYPE_CHECKING:
    from .cache import Cache

NAME = "metadata.name"
NAMESPACE = "metadata.namespace"


class Selection(Struct, frozen=True):
    """What a list or watch asks for. Empty selectors are None."""

    resource: Descriptor
    labels: selectors.Selector | None = None
    fields: selectors.FieldSelector | None = None
    view: View | None = None
    """How what is stored looks as `resource`, where that is not the same."""

    @property
    def everything(self) -> bool:
        return self.labels is None and self.fields is None

    @property
    def whole(self) -> bool:
        """Everything, as it is stored."""
        return self.everything and self.view is None

    @property
    def sifts(self) -> bool:
        """Do the fields say something that only a conversion by webhook tells? Then whoever looks
        at a stored object has it converted first."""
        if self.fields is None or self.view is None or self.view.prepare is None:
            return False
        return any(term.field not in (NAME, NAMESPACE) for term in self.fields.terms)

    @property
    def name(self) -> str:
        """The one name the fields allow, "" when they do not say."""
        if self.fields is not None:
            for field, value in self.fields.equals:
                if field == NAME:
                    return value
        return ""

    def matches(self, obj: Object) -> bool:
        if self.view is not None:
            obj = (self.view.glance or self.view.from_hub)(obj)
        metadata = obj["metadata"]
        if self.labels is not None and not self.labels.matches(metadata.get("labels") or {}):
            return False
        return self.fields is None or self.fields.matches(self.fields_of(obj))

    def fields_of(self, obj: Object) -> Mapping[str, str]:
        metadata = obj["metadata"]
        own = {NAME: metadata.get("name", ""), NAMESPACE: metadata.get("namespace", "")}
        if self.fields is None or all(term.field in own for term in self.fields.terms):
            return own
        return {**self.resource.rules.fields(obj), **own}

    def candidates(self, cache: Cache, namespace: str) -> list[str] | None:
        """Storage keys, sorted, that hold every match; None when only a scan can tell."""
        resource = self.resource
        if self.name and (namespace or not resource.namespaced):
            return [resource.key(namespace, self.name)]
        if self.view is not None:
            # The indexes are over what is stored.
            return None
        best: set[str] | None = None
        for name, value in self.labels.equals if self.labels is not None else ():
            best = _smaller(best, cache.keys_with_label(resource, name, value))
        for name, value in self.fields.equals if self.fields is not None else ():
            if name not in (NAME, NAMESPACE):
                best = _smaller(best, cache.keys_with_field(resource, name, value))
        if best is None:
            return None
        prefix = resource.prefix(namespace)
        return sorted(key for key in best if key.startswith(prefix))


def _smaller(best: set[str] | None, found: set[str] | None) -> set[str] | None:
    if found is None:
        return best
    return found if best is None or len(found) < len(best) else best


FIELD_ERRORS = {
    ("batch", "jobs"): 'field label "{}" not supported for batchv1.Job',
    ("resource.k8s.io", "resourceslices"): (
        "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {}"
    ),
}
"""Kinds whose complaint about a field upstream words in a way of its own."""


def selection_of(request: Request, resource: Descriptor) -> Selection:
    """The selectors of a request. Raises BadRequest in upstream's words."""
    view = view_of(resource)
    if not request.query:
        return Selection(resource, view=view)
    label_text, field_text = request.param("labelSelector"), request.param("fieldSelector")
    labels = selectors.parse_labels(label_text) if label_text else None
    fields = _fields(field_text, resource) if field_text else None
    return Selection(
        resource,
        None if labels is None or labels.everything else labels,
        None if fields is None or fields.everything else fields,
        view,
    )


def _fields(text: str, resource: Descriptor) -> selectors.FieldSelector:
    own = _selectable(resource)
    wording = FIELD_ERRORS.get((resource.group, resource.plural))
    if wording is not None:
        allowed = own | selectors.ALWAYS_SUPPORTED
        every = selectors.parse_fields(text, allowed | set(_FIELD.findall(text)))
        for term in every.terms:
            if term.field not in allowed:
                raise BadRequest(wording.format(term.field))
    return selectors.parse_fields(text, own)


_FIELD = re.compile("[^=!,]+")
"""What may be a field in a selector's text."""


def _selectable(resource: Descriptor) -> frozenset[str]:
    """The names of a kind's own selectable fields: those it gives for an empty object."""
    # A definition is not kept alive by what was once asked of it.
    return _fields_of(resource) if resource.custom is not None else _builtin_fields_of(resource)


@lru_cache(maxsize=1024)
def _builtin_fields_of(resource: Descriptor) -> frozenset[str]:
    return _fields_of(resource)


def _fields_of(resource: Descriptor) -> frozenset[str]:
    empty = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {}}
    return frozenset(resource.rules.fields(empty))
