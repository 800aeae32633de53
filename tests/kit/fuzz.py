"""Requests at random, from the schema of every kind: mostly of the right shape, often with wrong
values, now and then hopeless. The same seed gives the same requests.
"""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import Any, NamedTuple

import orjson

from sampan.api.descriptor import Descriptor
from sampan.api.resources import builtin
from sampan.api.schema import definitions

from .samples import NAMES, sample

DEPTH = 7
WORDS = (
    "a", "b", "x", "default", "kube-system", "c0", "web", "nginx:1", "TCP", "Always", "Never",
    "http", "10.0.0.1", "fd00::1", "10.0.0.0/8", "1", "100m", "1Gi", "-1", "50%", "0", "in", "In",
    "Exists", "NotIn", "kubernetes.io/x", "a=b", "/", "/a/../b", "", " ", "*", "RollingUpdate",
    "2026-11-23T00:00:00Z", "* * * * *", "object.spec.n > 1", "{.spec.n}", "v1", "apps/v1", "Pod",
)  # fmt: skip
ODD = (
    None, True, False, -1, 0, 1, 3, 1 << 31, 1 << 63, -(1 << 63), 0.5, 1e308, "", "x", "é\x00",
    "a" * 300, [], {}, [None], [[]], {"": None}, {"$patch": "delete"}, {"a": {"b": [1]}},
)  # fmt: skip
PARTS = ("status", "scale", "approval", "resize", "ephemeralcontainers")
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
DIRECTIVES: tuple[tuple[str, Any], ...] = (
    ("$patch", "delete"), ("$patch", "replace"), ("$patch", "merge"), ("$patch", "x"),
    ("$patch", 5),    ("$retainKeys", ["name"]), ("$retainKeys", "x"), ("$retainKeys", [5]),
    ("$setElementOrder/{}", ["a"]), ("$setElementOrder/{}", [{"name": "c0"}]),
    ("$setElementOrder/{}", 5), ("$setElementOrder/{}", [None]), ("$setElementOrder/", []),
    ("$deleteFromPrimitiveList/{}", ["a"]), ("$deleteFromPrimitiveList/{}", {}), ("$x/{}", []),
)  # fmt: skip
OWNED = {
    "manager": "f", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
    "fieldsV1": {"f:metadata": {"f:labels": {"k:{\"": {}, "v:{": {}, "i:x": {}, ".": 5}}},
}  # fmt: skip
QUERIES = (
    "", "", "", "dryRun=All", "fieldValidation=Strict", "fieldValidation=Ignore", "force=true",
    "fieldManager=f", "pretty=true", "dryRun=None", "fieldValidation=x",
)  # fmt: skip


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    body: Any
    content_type: str


class Fuzzer:
    """An endless supply of requests."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.resources = [item for item in builtin() if item.verbs]

    def value(self, shape: dict[str, Any], depth: int = 0) -> Any:
        """A value for a shape of the schema; one in twelve is odd."""
        random = self.random
        if "$ref" in shape:
            shape = definitions()[shape["$ref"]]
        if random.random() < 0.08 or depth > DEPTH:
            # One's own: bodies are changed further.
            return deepcopy(random.choice(ODD))
        kind = shape.get("type")
        if "properties" in shape:
            return self._object(shape, depth)
        if kind == "array":
            items = shape.get("items", {})
            return [self.value(items, depth + 1) for _ in range(random.choice((0, 1, 1, 2)))]
        if "additionalProperties" in shape:
            inner = shape["additionalProperties"]
            count = random.choice((0, 1, 2))
            return {random.choice(WORDS): self.value(inner, depth + 1) for _ in range(count)}
        if kind == "integer":
            return random.choice((0, 1, 2, 80, 8080, 65536, -1, 1 << 33))
        if kind == "number":
            return random.choice((0, 0.5, 1e9))
        if kind == "boolean":
            return random.random() < 0.5
        if kind == "object":
            return {random.choice(WORDS): random.choice(WORDS)}
        return random.choice(WORDS)

    def _object(self, shape: dict[str, Any], depth: int) -> dict[str, Any]:
        random = self.random
        required = shape.get("required", ())
        likely = max(0.08, 0.7 - depth * 0.12)
        made = {
            name: self.value(inner, depth + 1)
            for name, inner in shape["properties"].items()
            if name in required or random.random() < likely
        }
        if random.random() < 0.05:
            made[random.choice(WORDS)] = random.choice(ODD)
        return made

    def body(self, resource: Descriptor, name: str) -> Any:
        made = self.value({"$ref": resource.definition})
        if isinstance(made, dict):
            made["apiVersion"], made["kind"] = resource.api_version, resource.kind
            if self.random.random() < 0.9:
                made["metadata"] = {"name": name}
            if self.random.random() < 0.5:
                # Mostly as it was, so that it gets past the first check.
                made = {**sample(resource, name), **self._some(made)}
        return made

    def _some(self, obj: dict[str, Any]) -> dict[str, Any]:
        keys = [key for key in obj if key not in ("apiVersion", "kind", "metadata")]
        return {key: obj[key] for key in keys if self.random.random() < 0.3}

    def request(self) -> Asked:
        """The next one: a create, update, patch, read or deletion of an object that may exist."""
        random = self.random
        resource = random.choice(self.resources)
        method = random.choice(("POST", "POST", "PUT", "PATCH", "PATCH", "PATCH", "GET", "DELETE"))
        # What was there from the beginning stays, so that most changes have something to change.
        stays = NAMES.get(resource.kind, "f0")
        name = random.choice(("f1", "f2") if method == "DELETE" else (stays, stays, "f1", "f2"))
        namespace = "default" if resource.namespaced else ""
        parts = [name for name in resource.subresources if name in PARTS]
        part = method in ("PUT", "PATCH", "GET") and random.random() < 0.4
        subresource = random.choice([*parts, "x"]) if part else ""
        target = "" if method == "POST" else name
        path = resource.path(namespace, target, subresource)
        query = random.choice(QUERIES)
        if query:
            path += f"?{query}"
        if method == "GET":
            return Asked(method, path, None, "")
        if method == "PATCH":
            return self._patch(resource, path, name)
        if method == "DELETE":
            options = random.choice((None, None, {"gracePeriodSeconds": 0}, random.choice(ODD)))
            return Asked(method, path, options, "application/json")
        return Asked(method, path, self._spoil(self.body(resource, name)), "application/json")

    def _patch(self, resource: Descriptor, path: str, name: str) -> Asked:
        random = self.random
        kind = random.choice(PATCHES)
        body = self.body(resource, name)
        if kind == PATCHES[0]:
            body = [self._operation(resource) for _ in range(random.choice((1, 1, 2, 5)))]
        elif kind == PATCHES[2]:
            # Samples are shared.
            body = deepcopy(body)
            self._direct(body)
        elif kind == PATCHES[3] and "fieldManager" not in path:
            # Two managers, so that they own together, and disagree.
            path += ("&" if "?" in path else "?") + f"fieldManager={random.choice('fg')}"
            if isinstance(body, dict) and random.random() < 0.1:
                body["metadata"] = {"name": name, "managedFields": random.choice((*ODD, [OWNED]))}
        return Asked("PATCH", path, self._spoil(body), kind)

    def _direct(self, value: Any) -> None:
        """Directives of strategic patches, somewhere in a value."""
        random = self.random
        if isinstance(value, dict):
            for inner in list(value.values()):
                self._direct(inner)
            if random.random() < 0.1:
                name = random.choice(sorted(value) or ["x"])
                directive, given = random.choice(DIRECTIVES)
                value[directive.format(name)] = deepcopy(given)
        elif isinstance(value, list):
            for inner in value:
                self._direct(inner)

    def _operation(self, resource: Descriptor) -> Any:
        random = self.random
        shape = definitions()[resource.definition]
        steps = []
        while "properties" in shape and len(steps) < 4:
            name = random.choice(sorted(shape["properties"]) or ["x"])
            steps.append(name)
            shape = shape["properties"].get(name, {})
            if "$ref" in shape:
                shape = definitions()[shape["$ref"]]
            elif "items" in shape:
                steps.append(random.choice(("0", "-", "1", "x")))
                inner = shape["items"]
                shape = definitions()[inner["$ref"]] if "$ref" in inner else inner
        pointer = "/" + "/".join(steps)
        return {
            "op": random.choice(("add", "add", "replace", "remove", "test", "move", "copy", "x")),
            "path": random.choice((pointer, pointer, pointer, "", "/", "x", "/~2")),
            "value": self.value(shape, 4),
            "from": random.choice((pointer, "/spec", "/metadata")),
        }

    def _spoil(self, body: Any) -> Any:
        """Now and then bytes that are no JSON, or JSON that is unkind."""
        random = self.random
        chance = random.random()
        if chance > 0.04:
            return body
        raw = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS) if _encodable(body) else b"{"
        if chance < 0.01:
            return raw[: random.randrange(len(raw) + 1)]
        if chance < 0.02:
            return b"[" * 20_000
        if chance < 0.03:
            return raw.replace(b'"name"', b'"name":1,"name"')
        return b'{"metadata":{"' + b"k" * 10_000 + b'":' + raw + b"}}"


def _encodable(body: Any) -> bool:
    try:
        orjson.dumps(body)
    except (TypeError, orjson.JSONEncodeError):
        return False
    return True
