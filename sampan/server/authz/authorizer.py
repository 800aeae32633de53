"""Decisions: the node authoriser for nodes, then RBAC over the index of grants, remembered until a
role or binding changes; or the chain the administrator has configured (`chain`), which may hold
webhooks and then raises `Undecided` for the server to settle.

No tasks, no waiting. The memory of decisions holds at most `REMEMBERED` and is emptied when full
or when RBAC changed; a decision is about a user, verb, resource and namespace, whatever the name,
so that reading ten thousand pods by name remembers one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from sampan.api.errors import InternalError, aggregate
from sampan.api.fields import quote
from sampan.api.principals import MASTERS
from sampan.api.resources import resource

from ..exchange import Attributes, User
from ..series import Series
from .grants import Binding, Grants
from .nodes import NodeAuthorizer, Question, node_of
from .questions import Asked, Said, Verdict
from .rules import Rule, matches_path, matches_resource

if TYPE_CHECKING:
    from ..app import Server
    from .chain import Chain

NAME = "authorization.yaml"
GROUP = "rbac.authorization.k8s.io"
# About 1.5 MB when full; more distinct (user, verb, resource, namespace) than that start afresh.
REMEMBERED = 4096
# What is asked about in more letters or by more groups is decided anew each time: anybody may ask
# about anything (a long path, a made-up resource), and must not fill the memory with it.
MAX_LETTERS = 512
MAX_GROUPS = 64

Key = tuple[str, tuple[str, ...], str, str, str, str, str]


class Decision(NamedTuple):
    allowed: str | None
    """The reason, when every name is allowed."""
    names: dict[str, str]
    """Names that are allowed, with the reason."""
    denied: str
    """The reason given with a denial, mostly empty."""


class Authorizer:
    """Answers whether a user may do something. Needs `start` to know the cluster's roles."""

    def __init__(self, server: Server | None = None) -> None:
        self._server = server
        self.grants = Grants()
        self.nodes = NodeAuthorizer()
        self._generation = 0
        self._resources: dict[Key, Decision] = {}
        self._paths: dict[tuple[str, tuple[str, ...], str, str], tuple[bool, str]] = {}
        self._chain: Chain | None = None
        self._series = Series()
        if server is not None:
            self.load()
            server.expositions.append(self._series.exposition)

    def load(self) -> None:
        """Read the administrator's file, now or when it has changed. Raises ValueError for one that
        is no good, and then nothing has changed."""
        server = self._server
        if server is None or server.config.folder is None:
            return
        folder = server.config.folder
        if not (folder / NAME).exists():
            self._chain = None
            return
        # Imported only where there is a file.
        from .chain import load

        own = {"Node": self._by_node, "RBAC": self._by_rbac}
        self._chain = load(server, folder / NAME, own, self._series)

    @property
    def asks_others(self) -> bool:
        """May a decision raise Undecided?"""
        return self._chain is not None and bool(self._chain.webhooks)

    def close(self) -> None:
        """Requests that wait for a webhook end."""
        if self._chain is not None:
            self._chain.close()

    def start(self) -> None:
        """Follow the four RBAC resources. The server's cache must be open."""
        server = self._server
        if server is None:
            raise RuntimeError("an authorizer without a server has nothing to follow")
        self.nodes.graph.start(server)
        for plural in ("clusterroles", "roles"):
            server.observe(resource(plural, GROUP), self.grants.role_changed)
        for plural in ("clusterrolebindings", "rolebindings"):
            server.observe(resource(plural, GROUP), self.grants.binding_changed)

    def authorize(self, attributes: Attributes) -> tuple[bool, str]:
        """(allowed, reason). The reason of a denial is upstream's, mostly empty. Raises
        InternalError where nobody allows it and somebody could not be asked."""
        user = attributes.user
        if MASTERS in user.groups:
            return True, ""
        if self._chain is not None:
            said = self._chain.decide(_asked(attributes))
            if said.error and not said.allowed:
                raise InternalError(
                    f"Internal Server Error: {quote(attributes.path)}: {said.error}"
                )
            return said.allowed, said.reason
        target = attributes.resource
        if target is None:
            return self.allows_path(user, attributes.verb, attributes.path)
        return self.allows(
            user,
            attributes.verb,
            (target.group, target.plural, attributes.subresource),
            attributes.namespace,
            attributes.name,
            fields=attributes.fields,
        )

    def review(self, asked: Asked) -> Said:
        """The whole answer, as reviews show it."""
        if MASTERS in asked.user.groups:
            return Said(Verdict.ALLOW)
        if self._chain is not None:
            return self._chain.decide(asked)
        if asked.path:
            return _said(self.allows_path(asked.user, asked.verb, asked.path))
        target = (asked.group, asked.plural, asked.subresource)
        return _said(
            self.allows(
                asked.user, asked.verb, target, asked.namespace, asked.name, fields=asked.fields
            )
        )

    def allows(
        self,
        user: User,
        verb: str,
        target: tuple[str, str, str],
        namespace: str,
        name: str,
        *,
        fields: str = "",
    ) -> tuple[bool, str]:
        """Whether `user` may `verb` a (group, plural, subresource), known to the server or not.
        `fields` is a field selector, which narrows what a node asks for."""
        if MASTERS in user.groups:
            return True, ""
        if self._chain is not None:
            said = self._chain.decide(Asked(user, verb, *target, namespace, name, fields))
            return said.allowed, said.reason or said.error
        node = node_of(user)
        if node is None:
            return self._allows(user, verb, target, namespace, name)
        asked = Question(verb, *target, namespace, name, fields)
        allowed, why = self.nodes.allows(user, node, asked)
        if allowed:
            return True, ""
        allowed, reason = self._allows(user, verb, target, namespace, name)
        return allowed, reason if allowed else "\n".join(filter(None, (why, reason)))

    def _by_node(self, asked: Asked) -> Said:
        """The node authoriser alone."""
        node = node_of(asked.user)
        if node is None or asked.path:
            return Said(Verdict.NO_OPINION)
        question = Question(
            asked.verb,
            asked.group,
            asked.plural,
            asked.subresource,
            asked.namespace,
            asked.name,
            asked.fields,
        )
        return _said(self.nodes.allows(asked.user, node, question))

    def _by_rbac(self, asked: Asked) -> Said:
        """RBAC alone."""
        if asked.path:
            return _said(self._allows_path(asked.user, asked.verb, asked.path))
        target = (asked.group, asked.plural, asked.subresource)
        return _said(self._allows(asked.user, asked.verb, target, asked.namespace, asked.name))

    def _allows(
        self, user: User, verb: str, target: tuple[str, str, str], namespace: str, name: str
    ) -> tuple[bool, str]:
        """The same by RBAC alone."""
        if self._generation != self.grants.generation:
            self._forget()
        key = (user.name, tuple(user.groups), verb, *target, namespace)
        decision = self._resources.get(key)
        if decision is None:
            decision = self._decide(user, verb, target, namespace)
            if _is_short(user, verb, *target, namespace):
                if len(self._resources) >= REMEMBERED:
                    self._resources.clear()
                self._resources[key] = decision
        if decision.allowed is not None:
            return True, decision.allowed
        if name and name in decision.names:
            return True, decision.names[name]
        return False, decision.denied

    def allows_path(self, user: User, verb: str, path: str) -> tuple[bool, str]:
        """Whether `user` may `verb` (a lower-case method) a path that is no resource."""
        if MASTERS in user.groups:
            return True, ""
        if self._chain is not None:
            said = self._chain.decide(Asked(user, verb, path=path))
            return said.allowed, said.reason or said.error
        return self._allows_path(user, verb, path)

    def _allows_path(self, user: User, verb: str, path: str) -> tuple[bool, str]:
        """The same by RBAC alone."""
        if self._generation != self.grants.generation:
            self._forget()
        key = (user.name, tuple(user.groups), verb, path)
        known = self._paths.get(key)
        if known is None:
            known = self._decide_path(user, verb, path)
            if _is_short(user, verb, path):
                if len(self._paths) >= REMEMBERED:
                    self._paths.clear()
                self._paths[key] = known
        return known

    def rules(self, user: User, namespace: str) -> list[Rule]:
        """Every rule `user` holds in a namespace, cluster-wide ones among them."""
        return [rule for grant in self.grants.held(user, namespace) for rule in grant.rules or ()]

    def _decide(
        self, user: User, verb: str, target: tuple[str, str, str], namespace: str
    ) -> Decision:
        names: dict[str, str] = {}
        missing: dict[str, None] = {}
        group, plural, subresource = target
        for binding, rules in self.grants.held(user, namespace):
            if rules is None:
                missing[_missing_role(binding)] = None
                continue
            for rule in rules:
                if not matches_resource(rule, verb, group, plural, subresource):
                    continue
                reason = f"RBAC: allowed by {binding.describe()}"
                if not rule.names:
                    return Decision(reason, {}, "")
                names.update(dict.fromkeys(rule.names, reason))
        return Decision(None, names, _told(missing))

    def _decide_path(self, user: User, verb: str, path: str) -> tuple[bool, str]:
        missing: dict[str, None] = {}
        # Bindings of a namespace never grant paths: upstream asks cluster role bindings alone.
        for binding, rules in self.grants.held(user, ""):
            if rules is None:
                missing[_missing_role(binding)] = None
            elif any(matches_path(rule, verb, path) for rule in rules):
                return True, f"RBAC: allowed by {binding.describe()}"
        return False, _told(missing)

    def _forget(self) -> None:
        self._resources.clear()
        self._paths.clear()
        self._generation = self.grants.generation


def _asked(attributes: Attributes) -> Asked:
    """What a request asks to do."""
    target = attributes.resource
    if target is None:
        return Asked(attributes.user, attributes.verb, path=attributes.path)
    return Asked(
        attributes.user,
        attributes.verb,
        target.group,
        target.plural,
        attributes.subresource,
        attributes.namespace,
        attributes.name,
        attributes.fields,
        attributes.labels,
        target.version,
    )


def _said(answer: tuple[bool, str]) -> Said:
    allowed, reason = answer
    return Said(Verdict.ALLOW if allowed else Verdict.NO_OPINION, reason)


def _is_short(user: User, *texts: str) -> bool:
    """Is the question small enough to be remembered?"""
    if len(user.groups) > MAX_GROUPS:
        return False
    letters = sum(map(len, texts)) + sum(map(len, user.groups)) + len(user.name)
    return letters <= MAX_LETTERS * (1 + len(user.groups) // 8)


def _missing_role(binding: Binding) -> str:
    kind = "role" if binding.role.namespace else "clusterrole"
    return f"{kind}.{GROUP} {quote(binding.role.name)} not found"


def _told(errors: Iterable[str]) -> str:
    text = aggregate(errors)
    return f"RBAC: {text}" if text else ""
