"""TRUST row 12: who may do what: verb, resource, subresource, identity, over every kind there is.

What each identity holds is drawn at random; an independent model says what that allows. What it
does not allow is 403, in words that tell nothing of the object; what it allows is anything else.
`make trust` draws more identities; the same slice draws the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import pytest

from sampan.api.descriptor import Descriptor
from sampan.api.resources import builtin
from sampan.server.exchange import Stream, Upgrade, User
from tests.kit.cluster import Cluster, api_cluster, request_of
from tests.kit.trust import SLICE, size

CASES = size(20_000)
EACH = 2_000
"""Questions asked of one identity."""
RBAC = "/apis/rbac.authorization.k8s.io/v1"
METHODS = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT",
           "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE"}  # fmt: skip
COLLECTION = ("list", "watch", "create", "deletecollection")
NAMESPACES = ("a", "b")
NAMES = ("x", "y")
ALWAYS = ("selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews")
"""What everybody may ask about themselves."""
TWICE = frozenset({"exec", "attach", "portforward", "proxy"})
"""These may ask for further rights than the verb of their method says."""

pytestmark = pytest.mark.trust


class Case(NamedTuple):
    """One question: may somebody do this?"""

    verb: str
    resource: Descriptor
    subresource: str
    namespace: str
    name: str

    @property
    def target(self) -> str:
        plural = self.resource.plural
        return f"{plural}/{self.subresource}" if self.subresource else plural

    @property
    def path(self) -> str:
        path = self.resource.path(self.namespace, self.name, self.subresource)
        return path + ("?watch=true" if self.verb == "watch" else "")


@dataclass(frozen=True)
class Rule:
    """A rule of RBAC and where it holds."""

    verbs: frozenset[str]
    group: str
    resources: frozenset[str]
    names: frozenset[str]
    namespace: str

    def allows(self, case: Case) -> bool:
        if self.namespace and case.namespace != self.namespace:
            return False
        if not ({"*", case.verb} & self.verbs and self.group in ("*", case.resource.group)):
            return False
        anywhere = f"*/{case.subresource}" if case.subresource else "*"
        if not {"*", case.target, anywhere} & self.resources:
            return False
        return not self.names or case.name in self.names

    @property
    def body(self) -> dict[str, Any]:
        made = {"verbs": sorted(self.verbs), "apiGroups": [self.group],
                "resources": sorted(self.resources)}  # fmt: skip
        return made | ({"resourceNames": sorted(self.names)} if self.names else {})


class Draw:
    """Rules and questions at random."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.resources = [item for item in builtin() if item.plural not in ALWAYS]

    def rule(self) -> Rule:
        random = self.random
        resource = random.choice(self.resources)
        targets = [
            resource.plural,
            *(f"{resource.plural}/{part}" for part in resource.subresources),
        ]
        some = set(random.sample(targets, random.randint(1, len(targets))))
        if random.random() < 0.1:
            some.add(random.choice(("*", "*/status", "*/scale")))
        verbs = set(random.sample(sorted(METHODS), random.randint(1, 4)))
        if random.random() < 0.1:
            verbs.add("*")
        return Rule(
            frozenset(verbs),
            "*" if random.random() < 0.05 else resource.group,
            frozenset(some),
            frozenset({"x"} if random.random() < 0.3 else ()),
            random.choice(("", *NAMESPACES)) if resource.namespaced else "",
        )

    def case(self) -> Case:
        random = self.random
        resource = random.choice(self.resources)
        parts = [part for part in resource.subresources if part not in TWICE]
        part = random.choice(parts) if parts and random.random() < 0.4 else ""
        verbs = ("get", "create", "update", "patch", "delete") if part else tuple(METHODS)
        verb = random.choice(verbs)
        namespace = random.choice(NAMESPACES) if resource.namespaced else ""
        named = part or verb not in COLLECTION
        if resource.namespaced and verb in ("list", "watch") and random.random() < 0.3:
            namespace = ""
        return Case(verb, resource, part, namespace, random.choice(NAMES) if named else "")


async def grant(cluster: Cluster, user: User, rules: list[Rule]) -> None:
    """Each rule by a role of its own."""
    for number, rule in enumerate(rules):
        scope = f"/namespaces/{rule.namespace}" if rule.namespace else ""
        kind = "Role" if rule.namespace else "ClusterRole"
        name = f"{user.name}-{number}"
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        subject = {"apiGroup": ref["apiGroup"], "kind": "User", "name": user.name}
        for plural, body in (
            (f"{kind.lower()}s", {"rules": [rule.body]}),
            (f"{kind.lower()}bindings", {"roleRef": ref, "subjects": [subject]}),
        ):
            path = f"{RBAC}{scope}/{plural}"
            made = await cluster.http("POST", path, {"metadata": {"name": name}, **body})
            assert made.status == 201, made.message


async def ask(cluster: Cluster, user: User, case: Case) -> tuple[int, str]:
    """Status and body; streams are closed at once. Nothing is changed: bodies are hopeless."""
    method = METHODS[case.verb]
    media = "application/merge-patch+json" if case.verb == "patch" else "application/json"
    body: Any = None if method == "GET" else {"dryRun": ["All"]} if method == "DELETE" else [0]
    answer = await cluster.server.handle(request_of(method, case.path, body, user, media, ""))
    if isinstance(answer, Stream):
        await answer.chunks.aclose()  # type: ignore[attr-defined]
        return 200, ""
    assert not isinstance(answer, Upgrade)
    return answer.status, (answer.body or b"").decode()


def leaks(case: Case, user: User, allowed: bool, answer: tuple[int, str]) -> str:
    """What is wrong with an answer, "" if nothing is."""
    status, text = answer
    if (status != 403) is not allowed:
        return f"{user.name} {case.verb} {case.path}: {status}, allowed: {allowed}: {text[:300]}"
    if status == 500:
        return f"{case.verb} {case.path}: {text[:300]}"
    if not allowed and f'User \\"{user.name}\\" cannot {case.verb} resource' not in text:
        return f"{case.verb} {case.path}: {text[:300]}"
    return ""


async def judge(seed: int, count: int, *, open_to_all: bool = False) -> tuple[list[str], int]:
    """The leaks of `count` questions to one identity, and how many were allowed."""
    draw = Draw(seed)
    user = User(f"u{seed}", ("system:authenticated",))
    found, allowed_count = [], 0
    async with api_cluster() as cluster:
        for namespace in NAMESPACES:
            await cluster.http("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        rules = [draw.rule() for _ in range(25)]
        await grant(cluster, user, rules)
        if open_to_all:
            cluster.server.authorizer.authorize = lambda attributes: (True, "")
        for _ in range(count):
            case = draw.case()
            allowed = any(rule.allows(case) for rule in rules)
            allowed_count += allowed
            found.append(leaks(case, user, allowed, await ask(cluster, user, case)))
    return list(filter(None, found)), allowed_count


async def test_nothing_leaks() -> None:
    identities = max(1, CASES // EACH)
    allowed = 0
    for identity in range(identities):
        found, count = await judge(SLICE * 1000 + identity, EACH)
        assert found[:5] == []
        allowed += count
    # Both answers were asked for often enough; a single identity may happen to hold everything.
    assert 0.01 < allowed / (identities * EACH) < 0.9, allowed


async def test_without_the_guard_it_leaks() -> None:
    """The control: with the authoriser off the matrix does not hold."""
    found, _ = await judge(1, 200, open_to_all=True)
    assert found
