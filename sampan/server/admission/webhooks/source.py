"""The webhooks there are, compiled, and which of them a kind of request may concern.

Memory: one entry per webhook, and one per kind of request (resource, subresource, operation) seen
while there are webhooks; both are made anew when a configuration or the resources change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.api.selectors import Selector, from_label_selector

from ...exchange import Write
from ...webhooks.target import Target
from ...webhooks.target import target_of as call_target_of
from ..configuration import has_configuration
from .metrics import WebhookMetrics
from .rules import GROUP, Asked, Candidates, Rule, is_exempt, rule_of, target_of

if TYPE_CHECKING:
    from ...app import Server
    from .credentials import Credentials

VERSIONS = ("v1", "v1beta1")
"""Of AdmissionReview, that we speak."""
PLURALS = {
    "mutatingwebhookconfigurations": "admit",
    "validatingwebhookconfigurations": "validate",
}


class Hook(Struct):
    """One webhook of one configuration."""

    configuration: str
    name: str
    kind: str
    """"admit" or "validate", as in metrics."""
    index: int
    """Among all webhooks of its kind, as audit annotations count."""
    rules: tuple[Rule, ...]
    exact: bool
    namespaces: Selector
    objects: Selector
    conditions: tuple[Object, ...]
    config: Object
    version: str
    """Of the AdmissionReview sent: the first of its list that we speak."""
    ignore: bool
    """failurePolicy Ignore: a call that fails counts as allowed."""
    timeout_s: float
    dry: bool
    """May be called for a dry run."""
    reinvoke: bool
    matcher: Any = None
    """The compiled match conditions, made at the first call."""
    _target: Target | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.configuration, self.name

    @property
    def target(self) -> Target:
        """Where to call. Raises CallFailed when the configuration makes no sense."""
        if self._target is None:
            self._target = call_target_of(self.config)
        return self._target


class Candidate(NamedTuple):
    """A webhook whose rules are about a kind of request, and the form it gets it in."""

    hook: Hook
    resource: Descriptor


class Hooks:
    """Every webhook of one server, followed by events."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.metrics = WebhookMetrics()
        self._configurations: dict[str, dict[str, Object]] = {name: {} for name in PLURALS}
        self._hooks: dict[str, tuple[Hook, ...]] = {"admit": (), "validate": ()}
        self._candidates = Candidates(server, self._find)
        self.credentials: Mapping[str, Credentials] = {}
        """Shown to webhooks, by their kind; none unless the administrator configured some."""

    def start(self) -> None:
        self._server.expositions.append(self.metrics.exposition)
        if has_configuration(self._server.config.folder):
            from .credentials import credentials_of

            self.credentials = credentials_of(self._server.config.folder)
        for plural in PLURALS:
            self._server.observe(resource(plural, GROUP), self._observer(plural))

    def any(self, kind: str) -> bool:
        """Are there any webhooks of a kind ("admit", "validate")?"""
        return bool(self._hooks[kind])

    def candidates(self, kind: str, write: Write) -> tuple[Candidate, ...]:
        """The webhooks whose rules are about a write, in the order they are called."""
        return self._candidates.of(kind, write)

    def _find(self, kind: str, asked: Asked) -> tuple[Candidate, ...]:
        if is_exempt(asked.resource):
            return ()
        equals = [
            item
            for item in self._server.resources
            if item.storage == asked.resource.storage
            and (item.group, item.version) != (asked.resource.group, asked.resource.version)
            and (not asked.subresource or asked.subresource in item.subresources)
        ]
        out = []
        for hook in self._hooks[kind]:
            target = target_of(hook.rules, asked, equals, exact=hook.exact)
            if target is not None:
                out.append(Candidate(hook, target))
        return tuple(out)

    def _observer(self, plural: str) -> Any:
        known, kind = self._configurations[plural], PLURALS[plural]

        def changed(event: str, obj: Object, old: Object | None) -> None:
            name = obj["metadata"]["name"]
            if event == "DELETED":
                known.pop(name, None)
            else:
                known[name] = obj
            self._hooks[kind] = compile_hooks(kind, known)
            self._candidates.forget()
            self._server.admission.forget()

        return changed


def compile_hooks(kind: str, configurations: dict[str, Object]) -> tuple[Hook, ...]:
    """The webhooks of all configurations of a kind, in the order of the configurations' names."""
    out: list[Hook] = []
    for name in sorted(configurations):
        for raw in configurations[name].get("webhooks") or ():
            out.append(_hook(kind, name, raw, len(out)))
    return tuple(out)


def _hook(kind: str, configuration: str, raw: Object, index: int) -> Hook:
    versions = raw.get("admissionReviewVersions") or ()
    return Hook(
        configuration=configuration,
        name=raw["name"],
        kind=kind,
        index=index,
        rules=tuple(map(rule_of, raw.get("rules") or ())),
        exact=raw.get("matchPolicy") == "Exact",
        namespaces=from_label_selector(raw.get("namespaceSelector") or {}),
        objects=from_label_selector(raw.get("objectSelector") or {}),
        conditions=tuple(raw.get("matchConditions") or ()),
        config=raw.get("clientConfig") or {},
        version=next((item for item in versions if item in VERSIONS), ""),
        ignore=raw.get("failurePolicy") == "Ignore",
        timeout_s=float(raw.get("timeoutSeconds") or 10),
        dry=raw.get("sideEffects") in ("None", "NoneOnDryRun"),
        reinvoke=raw.get("reinvocationPolicy") == "IfNeeded",
    )
