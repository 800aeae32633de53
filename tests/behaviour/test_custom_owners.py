"""Custom resources own and are owned, and go with their namespace, like any other."""

from __future__ import annotations

from typing import Any

from sampan.testing import Cluster


def definition(scope: str = "Namespaced") -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "owners.example.com"},
        "spec": {
            "group": "example.com",
            "scope": scope,
            "names": {"kind": "Owner", "plural": "owners"},
            "versions": [version],
        },
    }


def owner(name: str = "o") -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Owner", "metadata": {"name": name}}


def owned(name: str, uid: str) -> dict[str, Any]:
    reference = {"apiVersion": "example.com/v1", "kind": "Owner", "name": "o", "uid": uid}
    meta = {"name": name, "ownerReferences": [reference]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}


async def test_dependents_of_a_custom_resource_go_with_it(cluster: Cluster) -> None:
    await cluster.apply(definition())
    made = await cluster.create(owner())
    await cluster.create(owned("mine", made["metadata"]["uid"]))
    await cluster.settle()
    assert await cluster.find("configmap", "mine") is not None
    await cluster.delete("owner", "o")
    await cluster.settle()
    assert await cluster.find("configmap", "mine") is None


async def test_foreground_deletion_waits_for_dependents(cluster: Cluster) -> None:
    await cluster.apply(definition())
    made = await cluster.create(owner())
    body = owned("mine", made["metadata"]["uid"])
    body["metadata"]["finalizers"] = ["example.com/hold"]
    body["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = True
    await cluster.create(body)
    await cluster.delete("owner", "o", options={"propagationPolicy": "Foreground"})
    await cluster.settle()
    assert await cluster.find("owner", "o") is not None
    await cluster.patch("configmap", "mine", {"metadata": {"finalizers": None}})
    await cluster.settle()
    assert await cluster.find("configmap", "mine") is None
    assert await cluster.find("owner", "o") is None


async def test_an_owner_of_an_unknown_kind_deletes_nothing_until_it_is_known(
    cluster: Cluster,
) -> None:
    await cluster.create(owned("mine", "0"))
    await cluster.settle()
    assert await cluster.find("configmap", "mine") is not None
    await cluster.apply(definition())
    await cluster.settle()
    assert await cluster.find("configmap", "mine") is None


async def test_a_namespace_takes_custom_resources_along(cluster: Cluster) -> None:
    await cluster.apply(definition())
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}
    await cluster.create(namespace)
    held = owner()
    held["metadata"] |= {"namespace": "x", "finalizers": ["example.com/hold"]}
    await cluster.create(held)
    await cluster.delete("namespace", "x")
    await cluster.settle()
    status = (await cluster.get("namespace", "x"))["status"]
    left = {item["type"]: item["message"] for item in status["conditions"]}
    assert "owners.example.com has 1 resource instances" in left["NamespaceContentRemaining"]
    await cluster.patch("owner", "o", {"metadata": {"finalizers": None}}, "x")
    await cluster.settle()
    assert await cluster.find("namespace", "x") is None


async def test_a_definition_that_goes_takes_its_objects_along(cluster: Cluster) -> None:
    await cluster.apply(definition())
    made = await cluster.create(owner())
    await cluster.create(owned("mine", made["metadata"]["uid"]))
    await cluster.delete("crd", "owners.example.com")
    await cluster.settle()
    assert await cluster.find("crd", "owners.example.com") is None
    kinds = await cluster.list("crd")
    assert kinds == []
