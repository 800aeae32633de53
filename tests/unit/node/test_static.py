"""Static pods: a folder's manifests run, and the API shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sampan.node.manifests import Unusable, static_pod
from tests.kit.clock import settle
from tests.kit.onenode import PODS, Node, no_server

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 5
  containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent}]
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    return Node(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data/manifests"
    path.mkdir(parents=True)
    return path


def mirror(node: Node) -> Any:
    return node.api.objects.get(f"{PODS}/web-n1") or {"status": {}, "metadata": {}}


def runs(node: Node) -> bool:
    return bool((mirror(node).get("status") or {}).get("phase") == "Running")


def ids(node: Node) -> list[str]:
    return [item.id for item in node.runtime.running()]


async def test_a_manifest_runs_and_is_shown_until_its_file_goes(node: Node, folder: Path) -> None:
    async with node.running() as agent:
        (folder / "web.yaml").write_text(MANIFEST)
        await node.until(lambda: runs(node))
        meta = mirror(node)["metadata"]
        (uid,) = agent.workers
        assert meta["annotations"]["kubernetes.io/config.mirror"] == uid
        assert meta["annotations"]["kubernetes.io/config.source"] == "file"
        assert meta["labels"] == {"app": "web"}
        (owner,) = meta["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("Node", "n1", True)
        assert owner["uid"] == "uid-n1"
        (folder / ".web.yaml.swp").write_text("nothing")
        node.runtime.obeys = lambda number: None
        (folder / "web.yaml").unlink()
        await node.until(lambda: node.runtime.signals)
        await settle()
        await node.clock.advance(4.5)
        assert node.runtime.running()
        await node.clock.advance(1)
        await node.until(lambda: f"{PODS}/web-n1" not in node.api.objects)
        await node.until(lambda: not agent.workers)


async def test_a_deleted_mirror_comes_again_and_its_pod_runs_on(node: Node, folder: Path) -> None:
    (folder / "web.yaml").write_text(MANIFEST)
    async with node.running():
        await node.until(lambda: runs(node))
        first = node.runtime.only().id
        node.api.remove(f"{PODS}/web-n1")
        await node.until(lambda: runs(node))
        await settle()
        node.delete("web-n1", 30)
        await node.until(lambda: runs(node) and len(mirror(node)["metadata"]) and not (
            mirror(node)["metadata"].get("deletionTimestamp")))  # fmt: skip
        assert node.runtime.only().id == first


async def test_an_agent_finds_its_static_pods_again(node: Node, folder: Path) -> None:
    (folder / "web.yaml").write_text(MANIFEST)
    async with node.running():
        await node.until(lambda: runs(node))
        first = node.runtime.only().id
    async with node.running():
        await settle()
        assert node.runtime.only().id == first
        assert runs(node)
    (folder / "web.yaml").unlink()
    async with node.running():
        await node.until(lambda: f"{PODS}/web-n1" not in node.api.objects)
        await node.until(lambda: not node.runtime.containers)


async def test_another_content_is_another_pod_after_the_first(node: Node, folder: Path) -> None:
    (folder / "web.yaml").write_text(MANIFEST)
    async with node.running():
        await node.until(lambda: runs(node))
        first = node.runtime.only().id
        (folder / "web.yaml").write_text(MANIFEST.replace("app: web", "app: next"))
        await node.until(lambda: runs(node) and bool(set(ids(node)) - {first}))
        assert mirror(node)["metadata"]["labels"] == {"app": "next"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[]", "not a Pod"),
        (b"kind: Pod\napiVersion: v1\nspec: {}", "without a name"),
        (MANIFEST.replace("name: c,", "name: C_,").encode(), "containers"),
        (MANIFEST.replace("name: c,", "name: 7,").encode(), "cannot unmarshal number"),
        (MANIFEST.replace("name: web", "name: ../web").encode(), "metadata.name"),
        (MANIFEST.replace("name: web", "name: web, namespace: ..").encode(), "metadata.namespace"),
        (MANIFEST.replace("name: web", "name: web, uid: ../u").encode(), "metadata.uid"),
    ],
)
def test_what_cannot_be_a_static_pod(body: bytes, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        static_pod(body, "x.yaml", "n1", "")


def volume(source: str) -> str:
    return f"spec:\n  volumes: [{{name: v, {source}}}]"


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("spec:\n  serviceAccountName: x", "serviceaccounts"),
        ("spec:\n  imagePullSecrets: [{name: x}]", "secrets"),
        ("spec:\n  resourceClaims: [{name: x, resourceClaimName: z}]", "resourceclaims"),
        (volume("configMap: {name: x}"), "configmaps"),
        (volume("persistentVolumeClaim: {claimName: x}"), "persistentvolumeclaims"),
        (volume("csi: {driver: x.io}"), "csidrivers (via CSI volumes)"),
    ],
)
def test_a_static_pod_needs_nothing_of_the_api(spec: str, named: str) -> None:
    """PreventStaticPodAPIReferences: it must be able to run where there is no API yet."""
    with pytest.raises(Unusable) as caught:
        static_pod(MANIFEST.replace("spec:", spec).encode(), "x.yaml", "n1", "")
    assert str(caught.value) == f"static pods may not reference {named}"
