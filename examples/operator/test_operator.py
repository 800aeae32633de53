"""The operator against a cluster inside the test (docs/testing.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kopf.testing import KopfRunner

from sampan.testing import Outcome, ThreadedCluster

# What kopf leaves open when its loop ends is not ours to judge.
pytestmark = pytest.mark.filterwarnings("default")
HERE = Path(__file__).parent
SITE = {
    "apiVersion": "example.com/v1",
    "kind": "Website",
    "metadata": {"name": "hello"},
    "spec": {"text": "Hello!", "replicas": 2},
}


@pytest.fixture
def operator(
    cluster: ThreadedCluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ThreadedCluster]:
    """A cluster in which the operator runs."""
    cluster.apply(HERE / "crd.yaml")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with KopfRunner(["run", "-A", "--standalone", str(HERE / "website.py")], timeout=10):
        yield cluster


def ready(count: int) -> Any:
    return lambda obj: obj and obj.get("status", {}).get("ready") == count


def test_a_website_gets_its_deployment(operator: ThreadedCluster) -> None:
    operator.apply(SITE)
    site = operator.wait("website", "hello", ready(2))
    assert site
    deployment = operator.get("deployment", "hello")
    assert deployment["metadata"]["ownerReferences"][0]["uid"] == site["metadata"]["uid"]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "busybox:latest"

    operator.patch("website", "hello", {"spec": {"replicas": 3}})
    operator.wait("website", "hello", ready(3))


def test_a_deleted_website_takes_its_children_along(operator: ThreadedCluster) -> None:
    operator.apply(SITE)
    operator.wait("website", "hello", ready(2))
    assert "example.com/website" in operator.get("website", "hello")["metadata"]["finalizers"]

    operator.delete("website", "hello")

    operator.wait("deployment", "hello", lambda obj: obj is None)
    operator.settle()
    assert operator.list("pods") == []
    assert operator.find("configmap", "hello") is None


def test_a_broken_image_is_told(operator: ThreadedCluster) -> None:
    operator.script(Outcome(waiting="ImagePullBackOff"), image="*:typo")
    operator.apply({**SITE, "spec": {**SITE["spec"], "image": "busybox:typo"}})

    def told(obj: Any) -> bool:
        return bool(obj and "ImagePullBackOff" in (obj.get("status", {}).get("trouble") or ""))

    operator.wait("website", "hello", told)
    operator.script(Outcome(), image="*:typo")  # somebody has pushed it
    operator.wait("website", "hello", ready(2))


def test_what_no_operator_should_see(cluster: ThreadedCluster) -> None:
    cluster.apply(HERE / "crd.yaml")
    with pytest.raises(Exception, match="should be less than or equal to 10"):
        cluster.create({**SITE, "spec": {"text": "x", "replicas": 11}})
