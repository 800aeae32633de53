"""PodNodeSelector: a namespace's pods go to the nodes that its annotation, or the configuration,
gives them.

    podNodeSelectorPluginConfig:
      clusterDefaultNodeSelector: name=value
      NAMESPACE: name=value,other=value

The default counts where a namespace has no annotation; a namespace's own line is the labels that
pods there may select by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.fields import quote
from sampan.api.names import label_key_problems, label_value_problems
from sampan.api.resources import resource

from ...exchange import Write
from ..configuration import Settings, mapping
from ..plugin import Plugin, refuse

if TYPE_CHECKING:
    from ...app import Server

ANNOTATION = "scheduler.alpha.kubernetes.io/node-selector"
DEFAULT = "clusterDefaultNodeSelector"
SECTION = "podNodeSelectorPluginConfig"

Labels = Mapping[str, str]


class PodNodeSelector(Struct, frozen=True):
    """Selectors by namespace, with DEFAULT for all."""

    selectors: Mapping[str, Labels]

    def mutate(self, server: Server, write: Write) -> None:
        wanted = self._wanted(server, write)
        self._check(write, wanted)
        spec = write.obj.setdefault("spec", {})
        merged = {**wanted, **(spec.get("nodeSelector") or {})}
        if merged:
            spec["nodeSelector"] = merged
        self._check_allowed(write)

    def validate(self, server: Server, write: Write) -> None:
        """What plugins behind have made of it."""
        self._check(write, self._wanted(server, write))
        self._check_allowed(write)

    def _wanted(self, server: Server, write: Write) -> Labels:
        found = server.find_object(resource("namespaces"), "", write.attributes.namespace) or {}
        text = ((found.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
        if text is None:
            return self.selectors.get(DEFAULT, {})
        try:
            return parse(text)
        except ValueError as error:
            raise refuse(write, str(error)) from None

    def _check(self, write: Write, wanted: Labels) -> None:
        have = _selector(write)
        if any(have.get(name, value) != value for name, value in wanted.items()):
            raise refuse(
                write, "pod node label selector conflicts with its namespace node label selector"
            )

    def _check_allowed(self, write: Write) -> None:
        allowed = self.selectors.get(write.attributes.namespace)
        if allowed and not _selector(write).items() <= allowed.items():
            raise refuse(
                write, "pod node label selector labels conflict with its namespace whitelist"
            )


def _selector(write: Write) -> dict[str, str]:
    spec: Object = write.obj.get("spec") or {}
    return spec.get("nodeSelector") or {}


def parse(text: str) -> Labels:
    """The labels of `name=value,other=value` (upstream's ConvertSelectorToLabelsMap). Raises
    ValueError."""
    labels = {}
    for part in text.split(",") if text else ():
        name, equals, value = part.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or "=" in value:
            raise ValueError(f"invalid selector: {part}")
        for why in (*label_key_problems(name), *label_value_problems(value)):
            raise ValueError(f"invalid label of a node selector: {quote(part)}: {why}")
        labels[name] = value
    return labels


def make(settings: Settings) -> Plugin:
    """Without a configuration only annotations count. Raises ValueError."""
    raw = mapping(settings.raw, "", (SECTION,))
    selectors = {}
    for namespace, text in mapping(raw.get(SECTION), SECTION).items():
        if not isinstance(text, str):
            raise ValueError(f"{SECTION}.{namespace}: must be a string")
        selectors[str(namespace)] = parse(text)
    plugin = PodNodeSelector(selectors)
    on = {("", "pods"): ("CREATE",)}
    return Plugin(settings.name, on, plugin.mutate, plugin.validate)
