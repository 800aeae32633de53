"""A kind of our own, for clients of custom resources."""

from __future__ import annotations

from typing import Any

GROUP = "clients.example.com"


def definition(plural: str) -> dict[str, Any]:
    """A CustomResourceDefinition with a schema, status and scale; its kind is Plural less `s`."""
    crew = {"type": "integer", "minimum": 1}
    shape = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "crew": crew,
                    "seats": {"type": "integer", "default": 4},
                    "port": {"type": "string"},
                },
            },
            "status": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"crew": {"type": "integer"}},
            },
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": shape},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.crew", "statusReplicasPath": ".status.crew"},
        },
    }
    singular = plural.removesuffix("s")
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": singular, "kind": singular.capitalize()},
            "versions": [version],
        },
    }


def boat(name: str, plural: str = "pyboats") -> dict[str, Any]:
    """One of them."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": plural.removesuffix("s").capitalize(),
        "metadata": {"name": name},
        "spec": {"crew": 2},
    }
