"""From a CustomResourceDefinition to the descriptors of its served versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sampan.api.decoding import Decoded, cannot_handle, reported
from sampan.api.descriptor import Custom, Descriptor, ScalePaths, Structure, Subresource
from sampan.api.errors import BadRequest, Object

from .codec import Codec, Storage
from .naming import condition_is
from .rules import Rules, kind_of

VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
PART_VERBS = ("get", "patch", "update")


def descriptors_of(
    definition: Object, storage: Storage, decoders: Callable[[str, Rules], Any]
) -> list[Descriptor]:
    """The descriptors of all versions, served or not, in the definition's order."""
    return [
        _descriptor(definition, version, storage, decoders)
        for version in definition["spec"]["versions"]
    ]


def _descriptor(
    definition: Object, version: Object, storage: Storage, decoders: Callable[[str, Rules], Any]
) -> Descriptor:
    spec, names = definition["spec"], definition["status"]["acceptedNames"]
    group, plural, kind = spec["group"], names["plural"], names["kind"]
    parts = version.get("subresources") or {}
    scale = _scale(parts.get("scale"))
    observe = storage.server.admission.metrics.evaluations.add
    rules = Rules(version, scale=scale, observe=observe)
    terminating = condition_is(definition, "Terminating")
    name = definition_name(group, version["name"], kind)
    api_version = f"{group}/{version['name']}"
    return Descriptor(
        group=group,
        version=version["name"],
        kind=kind,
        plural=plural,
        singular=names.get("singular") or kind.lower(),
        namespaced=spec["scope"] == "Namespaced",
        verbs=VERBS,
        subresources=_subresources(kind, "status" in parts, scale),
        definition=name,
        rules=kind_of(definition, version, rules, terminating=terminating),
        storage=storage.prefix,
        has_status=parts.get("status") is not None,
        counts_generation=True,
        structure=Structure(rules.schema, decoders(name, rules)),
        custom=Custom(
            definition=definition["metadata"]["name"],
            list_kind=names.get("listKind") or f"{kind}List",
            scale=scale,
            codec=Codec(storage, api_version, rules),
            terminating=terminating,
            selectable=[
                item["jsonPath"].removeprefix(".") for item in version.get("selectableFields") or ()
            ],
        ),
    )


def definition_name(group: str, version: str, kind: str) -> str:
    """Name of the schema in OpenAPI documents: com.example.stable.v1.CronTab."""
    return ".".join((*reversed(group.split(".")), version, kind))


def _scale(raw: Object | None) -> ScalePaths | None:
    if raw is None:
        return None
    return ScalePaths(
        raw["specReplicasPath"], raw["statusReplicasPath"], raw.get("labelSelectorPath") or ""
    )


def _subresources(kind: str, has_status: bool, scale: ScalePaths | None) -> dict[str, Subresource]:
    out: dict[str, Subresource] = {}
    if has_status:
        out["status"] = Subresource(kind, PART_VERBS)
    if scale is not None:
        out["scale"] = Subresource("Scale", PART_VERBS, "autoscaling", "v1")
    return out


def decoder(name: str, rules: Rules) -> Callable[[Any, bool, Sequence[str]], Decoded]:
    """Decodes bodies of one version: see `Structure.decode`."""
    return partial(_decode, name, rules)


def _decode(
    name: str, rules: Rules, value: Any, strict: bool, duplicates: Sequence[str]
) -> Decoded:
    from sampan.api.structural.objects import Malformed, coerced

    unknown: list[str] = []
    try:
        obj = coerced(rules.schema, rules.pruner(value, None, unknown), unknown)
    except Malformed as error:
        raise BadRequest(f"{cannot_handle(name, value)}: {error}") from None
    return reported(name, value, Decoded(obj, unknown), strict=strict, duplicates=duplicates)
