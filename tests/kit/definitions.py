"""Custom resource definitions for tests."""

from __future__ import annotations

from typing import Any

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MERGE = "application/merge-patch+json"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"

Schema = dict[str, Any]
Obj = dict[str, Any]

FREE: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def version(name: str = "v1", spec: Schema | None = None, **changes: Any) -> Obj:
    """A version whose objects have a spec of that schema and any status."""
    schema = {"type": "object", "properties": {"spec": spec or FREE, "status": FREE}}
    return {
        "name": name,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        **changes,
    }


def definition(*versions: Obj, plural: str = "widgets", **spec: Any) -> Obj:
    """A definition of widgets.example.com; keywords change its spec."""
    body: Obj = {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": plural, "kind": plural.removesuffix("s").capitalize()},
        "versions": list(versions) or [version()],
        **spec,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{body['names']['plural']}.{body['group']}"},
        "spec": body,
    }


def widget(name: str = "a", /, api_version: str = "example.com/v1", **spec: Any) -> Obj:
    return {
        "apiVersion": api_version,
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": spec,
    }


def conditions(obj: Obj) -> dict[str, tuple[str, str]]:
    """(status, reason) of a definition's conditions."""
    return {
        item["type"]: (item["status"], item["reason"])
        for item in obj["status"].get("conditions") or ()
    }
