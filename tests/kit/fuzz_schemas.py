"""Definitions of custom resources at random, good and bad, and requests for objects of them. The
same seed gives the same ones."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson

from .fuzz import ODD, PATCHES, WORDS, Asked

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "fuzz.example.com"
DEPTH = 4
FIELDS = ("a", "b", "items", "spec", "metadata", "n", "x-y", "$ref", "", "__proto__", "kind")
TYPES = ("object", "object", "array", "string", "integer", "number", "boolean", "null", "", 5)
PATTERNS = (
    "^a+$",
    "(a+)+$",
    "((a{1,99}){1,99}){1,99}",
    "[",
    "(?<=a)b",
    "\\1",
    "a" * 3000,
    "^(?i)x",
)
FORMATS = ("date-time", "int32", "int64", "byte", "ipv4", "cidr", "uuid", "duration", "x", "float")
RULES = (
    "self == self", "self.a > 1", "has(self.a)", "self.all(i, i == i)", "oldSelf == self", "1", "(",
    "self.all(a, self.all(b, self.all(c, a == b && b == c)))", "'a'.matches('(a+)+$')", "x" * 5000,
    "((((((((((self))))))))))", "[1,2,3].map(x, [x].map(y, y)).size() > 0", "1 / 0 == 1", "self[0]",
    "9223372036854775807 + 1 > 0", "duration('1h') > duration('x')", "quantity('1').isInteger()",
    "self.?a.orValue('x') == 'x'", "string(self).size() < 10", "true || self.nope", "url('://')",
)  # fmt: skip
EXTENSIONS: dict[str, tuple[Any, ...]] = {
    "nullable": (True, False, "x"),
    "x-kubernetes-preserve-unknown-fields": (True, False),
    "x-kubernetes-int-or-string": (True,),
    "x-kubernetes-embedded-resource": (True,),
    "x-kubernetes-list-type": ("map", "set", "atomic", "x"),
    "x-kubernetes-list-map-keys": (["a"], ["a", "b"], [], ["nope"], "a"),
    "x-kubernetes-map-type": ("granular", "atomic", "x"),
    "minimum": (0, -1, 1e308, "x"), "maximum": (0, 10, -1), "multipleOf": (2, 0, -1, 0.1),
    "maxItems": (0, 3, -1, 1 << 40), "maxProperties": (0, 2), "maxLength": (1, 1 << 62, -1),
    "uniqueItems": (True, False), "required": (["a"], ["a", "a"], ["nope"], "a"),
    "oneOf": ([{"required": ["a"]}, {"required": ["b"]}], [], {}), "not": ({"required": ["b"]}, {}),
    "anyOf": ([{"properties": {"a": {"type": "string"}}}], [{"minimum": 1}]),
    "additionalProperties": (True, False, {"type": "string"}, {"type": "object"}, 5),
    "example": ODD, "title": ("x", 5), "exclusiveMinimum": (True, 5), "$ref": ("#/definitions/x",),
}  # fmt: skip
PATHS = (".spec.a", ".a", ".status.n", "spec", "", ".a[*].b", "..a", ".a['b", ".x" * 500, "{.a}")


class SchemaFuzzer:
    """An endless supply of definitions, and of requests for what they define."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.tame = False
        """Is this definition one that may well be taken, so that objects of it can be tried?"""

    def schema(self, depth: int = 0) -> Any:
        """A schema: mostly a structural one, with an odd part now and then."""
        random = self.random
        if self.tame:
            return self.tame_schema(depth)
        if random.random() < 0.02:
            return random.choice(ODD)
        kind = "object" if depth == 0 and random.random() < 0.95 else random.choice(TYPES[:7])
        if random.random() < 0.03:
            kind = random.choice(TYPES)
        made: dict[str, Any] = {"type": kind} if kind != "" else {}
        if kind == "object" and depth < DEPTH:
            names = random.sample(FIELDS[:6] if random.random() < 0.9 else FIELDS, 3)
            made["properties"] = {name: self.schema(depth + 1) for name in names}
        elif kind == "array" and random.random() < 0.95:
            made["items"] = self.schema(depth + 1) if depth < DEPTH else {"type": "string"}
        elif kind == "string" and random.random() < 0.3:
            made[random.choice(("pattern", "format"))] = random.choice((*PATTERNS, *FORMATS))
        if random.random() < 0.2:
            made["default"] = self.value(made, depth)
        if random.random() < 0.1:
            made["enum"] = [self.value(made, depth) for _ in range(2)]
        if random.random() < 0.15:
            name = random.choice(sorted(EXTENSIONS))
            made[name] = random.choice(EXTENSIONS[name])
        if random.random() < 0.15:
            rule = {"rule": random.choice(RULES)}
            if random.random() < 0.3:
                extra = ("message", "messageExpression", "reason", "fieldPath", "optionalOldSelf")
                rule[random.choice(extra)] = random.choice((*RULES, *PATHS, "FieldValueInvalid"))
            made["x-kubernetes-validations"] = [rule] * random.choice((1, 1, 1, 30))
        return made

    def tame_schema(self, depth: int) -> dict[str, Any]:
        """One that is structural."""
        random = self.random
        kind = "object" if depth == 0 else random.choice(TYPES[1:7])
        made: dict[str, Any] = {"type": kind}
        if kind == "object":
            names = random.sample(FIELDS[:4], 2) if depth < DEPTH else []
            made["properties"] = {name: self.tame_schema(depth + 1) for name in names}
            if random.random() < 0.3:
                made["x-kubernetes-preserve-unknown-fields"] = True
        elif kind == "array":
            made["items"] = {"type": "string"}
            if random.random() < 0.5:
                inner = {"a": {"type": "string"}, "b": self.tame_schema(max(depth + 1, DEPTH))}
                made["items"] = {"type": "object", "required": ["a"], "properties": inner}
                made |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"]}
        elif kind == "string":
            made |= random.choice(({}, {}, {"pattern": "(a+)+$"}, {"format": "date-time"}))
        elif random.random() < 0.4:
            made |= {"default": {"integer": 1, "number": 0.5, "boolean": True}[kind]}
        if depth and "default" not in made and random.random() < 0.2:
            made["nullable"] = True
        if random.random() < 0.1:
            made["x-kubernetes-validations"] = [{"rule": random.choice(("self == self", "false"))}]
        return made

    def value(self, schema: Any, depth: int = 0) -> Any:
        """A value for a schema; one in ten is odd."""
        random = self.random
        if not isinstance(schema, dict) or random.random() < 0.1 or depth > DEPTH + 2:
            return random.choice(ODD)
        kind = schema.get("type")
        if kind == "object":
            names = schema.get("properties") or {}
            made = {
                name: self.value(inner, depth + 1)
                for name, inner in (names.items() if isinstance(names, dict) else ())
                if random.random() < 0.7
            }
            if random.random() < 0.1:
                made[random.choice(FIELDS)] = random.choice(ODD)
            return made
        if kind == "array":
            return [self.value(schema.get("items"), depth + 1) for _ in range(random.randrange(4))]
        if kind == "integer":
            return random.choice((0, 1, -1, 1 << 33, 1 << 63))
        if kind == "number":
            return random.choice((0, 0.1, 1e300))
        if kind == "boolean":
            return random.random() < 0.5
        return random.choice((*WORDS, "a" * 40))

    def definition(self, name: str) -> dict[str, Any]:
        """One of the plural `name`."""
        random = self.random
        self.tame = random.random() < 0.6
        schema = self.schema()
        if isinstance(schema, dict) and random.random() < 0.9:
            # More get past the first check.
            schema["type"] = "object"
            schema.setdefault("properties", {}).pop("metadata", None)
        version = self.version("v1", schema, storage=True)
        versions = [version]
        if random.random() < 0.3:
            other = schema if random.random() < 0.5 else self.schema()
            versions.append(self.version("v2", other, storage=random.random() < 0.05))
        spec: dict[str, Any] = {
            "group": GROUP, "scope": "Namespaced", "versions": versions,
            "names": {"kind": name.title(), "plural": name, "shortNames": [f"{name}x"],
                      "categories": ["all"]},
        }  # fmt: skip
        if random.random() < 0.05 and not self.tame:
            spec[random.choice(("scope", "names", "conversion", "x"))] = random.choice(ODD)
        return {"metadata": {"name": f"{name}.{GROUP}"}, "spec": spec}

    def version(self, name: str, schema: Any, *, storage: bool) -> dict[str, Any]:
        random = self.random
        made: dict[str, Any] = {
            "name": name, "served": True, "storage": storage,
            "schema": {"openAPIV3Schema": schema},
        }  # fmt: skip
        if random.random() < 0.4:
            made["subresources"] = {"status": {}}
        if self.tame:
            return made
        if random.random() < 0.2:
            made["subresources"] = {
                "scale": {"specReplicasPath": random.choice(PATHS),
                          "statusReplicasPath": random.choice(PATHS)},
            }  # fmt: skip
        if random.random() < 0.2:
            kind = random.choice(("string", "date", "integer", "x"))
            made["additionalPrinterColumns"] = [
                {"name": "A", "type": kind, "jsonPath": random.choice(PATHS)}
            ]
        if random.random() < 0.1:
            made["selectableFields"] = [{"jsonPath": random.choice(PATHS)}]
        return made

    def request(self, definition: dict[str, Any]) -> Asked:
        """One about objects of a definition."""
        random = self.random
        versions = definition["spec"]["versions"]
        schema: Any = None
        if isinstance(versions, list) and versions and isinstance(versions[0], dict):
            schema = versions[0].get("schema", {}).get("openAPIV3Schema")
        plural = definition["metadata"]["name"].partition(".")[0]
        version = random.choice(("v1", "v1", "v1", "v2"))
        base = f"/apis/{GROUP}/{version}/namespaces/default/{plural}"
        name = random.choice(("a", "b"))
        path = f"{base}/{name}" + random.choice(("", "", "", "/status", "/scale"))
        body = self.value(schema)
        if isinstance(body, dict):
            body = {**body, "apiVersion": f"{GROUP}/{version}", "kind": plural.title(),
                    "metadata": {"name": name}}  # fmt: skip
        method = random.choice(("POST", "POST", "PUT", "PATCH", "PATCH", "PATCH", "GET", "DELETE"))
        if method == "POST":
            return Asked(method, base, body, "application/json")
        if method in ("GET", "DELETE"):
            return Asked(method, random.choice((path, base)), None, "application/json")
        if method == "PUT":
            return Asked(method, path, body, "application/json")
        return self.patch(path, body)

    def patch(self, path: str, body: Any) -> Asked:
        random = self.random
        kind = random.choice(PATCHES)
        if kind == PATCHES[3]:
            path += f"?fieldManager={random.choice('fg')}{random.choice(('', '&force=true'))}"
        if kind == PATCHES[0]:
            steps = "/".join(random.choice((*FIELDS, "0", "-")) for _ in range(random.randrange(4)))
            body = [{"op": random.choice(("add", "remove", "replace", "copy", "test", "move")),
                     "path": f"/{steps}", "from": "/a", "value": body}]  # fmt: skip
        return Asked("PATCH", path, body, kind)


def is_json(body: Any) -> bool:
    """Can this be sent at all?"""
    try:
        orjson.dumps(body)
    except TypeError:
        return False
    return True
