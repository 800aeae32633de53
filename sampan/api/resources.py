"""The built-in resources: `KINDS` joined with the distilled schema.

`resource("pods")` is how the server and what lives beside it name what they mean, and get all that
is known of it. A node, which only asks for objects, says `api_resource("pods")`: the rules of the
kinds would take it thirty milliseconds and four megabytes.
"""

from __future__ import annotations

import re
from functools import cache

from .descriptor import ApiResource, Descriptor, Kind, Subresource
from .shapes import resource_rows

# Discovery's verbs for what the distilled table calls by method.
VERBS = {
    "delete": "delete",
    "deletecollection": "deletecollection",
    "get": "get",
    "list": "list",
    "global_list": "list",
    "patch": "patch",
    "post": "create",
    "put": "update",
    "watch": "watch",
    "global_watch": "watch",
}


STABLE = re.compile(r"v[0-9]+").fullmatch
YOUNG = {
    ("clustertrustbundles", "certificates.k8s.io"): "v1beta1",
    ("storageversionmigrations", "storagemigration.k8s.io"): "v1beta1",
}
"""The version of what is served although it has no stable one."""


@cache
def builtin() -> tuple[Descriptor, ...]:
    """Every served built-in resource, in discovery's order (group, version, plural)."""
    # The rules of a hundred kinds: who only names resources does without (`api_resource`).
    from .kinds.table import KINDS

    by_kind = {(kind.group, kind.version, kind.kind): kind for kind in KINDS}
    out = []
    for row in resource_rows():
        kind = by_kind.get((row["group"], row["version"], row["kind"]))
        if kind is not None:
            out.append(_join(row, kind))
    return tuple(sorted(out, key=lambda item: (item.group, item.version, item.plural)))


@cache
def _index() -> dict[tuple[str, str], Descriptor]:
    return {(item.group, item.plural): item for item in builtin()}


@cache
def resource(plural: str, group: str = "", version: str = "") -> Descriptor:
    """The descriptor of a built-in resource; KeyError if there is none.

    Without `version` the newest served version is meant (v2 before v1).
    """
    if version:
        for item in builtin():
            if (item.plural, item.group, item.version) == (plural, group, version):
                return item
        raise KeyError((group, version, plural))
    return _index()[group, plural]


@cache
def api_resource(plural: str, group: str = "") -> ApiResource:
    """Where a built-in resource is served, in its newest version. Raises KeyError."""
    found = [
        row
        for row in resource_rows()
        if (row["plural"], row["group"]) == (plural, group)
        and (STABLE(row["version"]) or row["version"] == YOUNG.get((plural, group)))
    ]
    if not found:
        raise KeyError((group, plural))
    row = max(found, key=lambda row: str(row["version"]))
    return ApiResource(group, row["version"], row["kind"], plural, row["namespaced"])


def _join(row: dict, kind: Kind) -> Descriptor:  # type: ignore[type-arg]
    subresources = {
        name: Subresource(
            kind=sub["kind"],
            group=sub["group"],
            version=sub["version"],
            verbs=tuple(sorted({VERBS[verb] for verb in sub["verbs"]})),
        )
        for name, sub in row["subresources"].items()
    } | dict(kind.extra_subresources)
    has_status = "status" in subresources
    group = row["group"]
    where = kind.storage or (row["plural"] if "." not in group else f"{group}/{row['plural']}")
    verbs = {VERBS[verb] for verb in row["verbs"]}
    if kind.computed:
        verbs.discard("watch")
    return Descriptor(
        group=group,
        version=row["version"],
        kind=row["kind"],
        plural=row["plural"],
        singular=row["kind"].lower(),
        namespaced=row["namespaced"],
        verbs=tuple(sorted(verbs)),
        subresources=subresources,
        definition=row["definition"],
        rules=kind,
        storage="" if kind.computed else f"/registry/{where}/",
        has_status=has_status,
        counts_generation=has_status if kind.generation is None else kind.generation,
    )
