"""Who holds which rules: an index of roles and bindings, kept by events.

`generation` grows with every change; whoever keeps something derived compares it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sampan.api.errors import Object
from sampan.api.fields import quote

from ..exchange import User
from .rules import Rule, compile_rules

SERVICE_ACCOUNT = "system:serviceaccount:"


class RoleKey(NamedTuple):
    namespace: str
    """"" for a ClusterRole."""
    name: str


class Binding(NamedTuple):
    """One subject's tie to one role. `namespace` "" means the whole cluster."""

    namespace: str
    name: str
    role: RoleKey
    subject: str

    def describe(self) -> str:
        """As upstream's authorizer explains why it allows."""
        kind = "Role" if self.role.namespace else "ClusterRole"
        role = f"{kind} {quote(self.role.name)} to {self.subject}"
        if self.namespace:
            return f"RoleBinding {quote(f'{self.name}/{self.namespace}')} of {role}"
        return f"ClusterRoleBinding {quote(self.name)} of {role}"


class Grant(NamedTuple):
    """Rules held through one binding; `rules` is None when its role does not exist."""

    binding: Binding
    rules: tuple[Rule, ...] | None


class Grants:
    """Roles by key and bindings by subject."""

    def __init__(self) -> None:
        self.generation = 0
        self._raw: dict[RoleKey, list[Object]] = {}
        self._roles: dict[RoleKey, tuple[Rule, ...]] = {}
        """Compiled when first asked for: most of the many default roles never are."""
        self._bindings: dict[tuple[str, str], list[tuple[str, Binding]]] = {}
        # Subject ("u:name" or "g:name") -> its bindings by (namespace, binding name, role).
        self._subjects: dict[str, dict[Binding, None]] = {}

    def role_changed(self, event: str, obj: Object, old: Object | None) -> None:
        """Observer of roles and cluster roles."""
        meta = obj["metadata"]
        key = RoleKey(meta.get("namespace", ""), meta["name"])
        self.generation += 1
        self._roles.pop(key, None)
        if event == "DELETED":
            self._raw.pop(key, None)
        else:
            self._raw[key] = obj.get("rules") or []

    def binding_changed(self, event: str, obj: Object, old: Object | None) -> None:
        """Observer of role bindings and cluster role bindings."""
        meta = obj["metadata"]
        namespace = meta.get("namespace", "")
        key = (namespace, meta["name"])
        self.generation += 1
        for subject, binding in self._bindings.pop(key, ()):
            held = self._subjects[subject]
            held.pop(binding, None)
            if not held:
                del self._subjects[subject]
        if event == "DELETED":
            return
        ref = obj["roleRef"]
        role = RoleKey(namespace if ref["kind"] == "Role" else "", ref["name"])
        entries = []
        for raw in obj.get("subjects") or ():
            subject, text = _subject(raw, namespace)
            binding = Binding(namespace, meta["name"], role, text)
            entries.append((subject, binding))
            self._subjects.setdefault(subject, {})[binding] = None
        self._bindings[key] = entries

    def rules_of(self, role: RoleKey) -> tuple[Rule, ...] | None:
        rules = self._roles.get(role)
        if rules is None and (raw := self._raw.get(role)) is not None:
            rules = self._roles[role] = compile_rules(raw)
        return rules

    def held(self, user: User, namespace: str) -> Iterator[Grant]:
        """What `user` holds in a namespace ("" = in the whole cluster only)."""
        subjects = self._subjects
        for key in (f"u:{user.name}", *(f"g:{group}" for group in user.groups)):
            for binding in subjects.get(key, ()):
                if not binding.namespace or binding.namespace == namespace:
                    yield Grant(binding, self.rules_of(binding.role))


def _subject(raw: Object, namespace: str) -> tuple[str, str]:
    """Index key and description of a binding's subject."""
    kind, name = raw.get("kind", ""), raw.get("name", "")
    if kind == "ServiceAccount":
        home = raw.get("namespace") or namespace
        return f"u:{SERVICE_ACCOUNT}{home}:{name}", f"{kind} {quote(f'{name}/{home}')}"
    return ("g:" if kind == "Group" else "u:") + name, f"{kind} {quote(name)}"
