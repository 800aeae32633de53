"""Claims for devices on a node: a real driver over its sockets, an agent with the rest faked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sampan.node.dra import cdi
from sampan.runtime.interface import ContainerSpec, Device, Mount, Security
from tests.kit.clock import settle
from tests.kit.dradriver import DeviceDriver
from tests.kit.onenode import PODS, Node, no_server

NAME = "gpu.example.com"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
EDITS: dict[str, Any] = {
    "cdiVersion": "0.6.0",
    "kind": "example.com/gpu",
    "containerEdits": {"env": ["ALL=1"]},
    "devices": [
        {"name": "one", "containerEdits": {
            "env": ["GPU=one", "PATH=/gpu"],
            "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw"}],
            "mounts": [{"hostPath": "/opt/gpu", "containerPath": "/gpu"}],
            "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "args": ["hook"]}],
            "additionalGids": [44],
        }},
        {"name": "two", "containerEdits": {"env": ["GPU=two"]}},
    ],
}  # fmt: skip


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    monkeypatch.setattr("sampan.node.volumes.kubelet.Kubelet.path", lambda self, path: path)
    folder = tmp_path / "cdi"
    folder.mkdir()
    (folder / "gpu.json").write_text(json.dumps(EDITS))
    monkeypatch.setattr(cdi, "read", lambda read=cdi.read: read((folder,)))
    return Node(tmp_path)


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[DeviceDriver]:
    driver = DeviceDriver(NAME, tmp_path / "plugin", tmp_path / "data/plugins_registry")
    driver.devices = {"a": ["example.com/gpu=one"], "b": ["example.com/gpu=two"]}
    yield driver
    await driver.stop()


def claim(node: Node, *pods: str, name: str = "mine", **meta: Any) -> None:
    result = {"request": "a", "driver": NAME, "pool": "p", "device": "d"}
    reserved = [{"resource": "pods", "name": pod, "uid": f"uid-{pod}"} for pod in pods]
    status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": reserved}
    node.api.put(f"{CLAIMS}/{name}", {"metadata": {"uid": f"uid-{name}", **meta},
                                      "spec": {}, "status": status})  # fmt: skip


def use(node: Node, name: str = "p", request: str = "", claim: str = "mine") -> None:
    wanted = {"name": "gpu", **({"request": request} if request else {})}
    container = {"resources": {"claims": [wanted]}}
    claims = [{"name": "gpu", "resourceClaimName": claim}]
    node.bind(name, container=container, resourceClaims=claims)


async def eventually(check: Any) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.002)
            await settle()


async def runs(node: Node, name: str = "p") -> None:
    await eventually(lambda: node.pod(name)["status"]["phase"] == "Running")


async def registered(driver: DeviceDriver) -> None:
    await driver.start()
    await eventually(lambda: driver.registered)


def warnings(node: Node) -> list[str]:
    return [message for kind, _, message in node.api.events() if kind == "Warning"]


async def test_claims_are_prepared_before_and_given_back_after_the_last_user(
    node: Node, driver: DeviceDriver
) -> None:
    asked = [{"namespace": "default", "uid": "uid-mine", "name": "mine"}]
    async with node.running():
        await registered(driver)
        assert driver.registered == [(True, "")]
        claim(node, "p", "q")
        use(node)
        await runs(node)
        use(node, "q", request="b")
        await runs(node, "q")
        # A claim that is shared is prepared once.
        assert driver.asked("NodePrepareResources") == [{"claims": asked}]
        first, second = node.runtime.specs.values()
        assert dict(first.env)["GPU"] == "two"
        assert dict(first.env)["ALL"] == "1"
        assert first.devices == [Device("/dev/gpu0", "/dev/null", "rw")]
        # Of a request, only its own devices.
        assert (dict(second.env)["GPU"], second.devices) == ("two", [])
        node.delete("p", 0)
        await eventually(lambda: f"{PODS}/p" not in node.api.objects)
        assert not driver.asked("NodeUnprepareResources")
        node.delete("q", 0)
        await eventually(lambda: f"{PODS}/q" not in node.api.objects)
        assert driver.asked("NodeUnprepareResources") == [{"claims": asked}]
        assert not list((node.tmp / "data/dra_claims").iterdir())


async def test_a_driver_that_hangs_keeps_no_other_claim_waiting(
    node: Node, driver: DeviceDriver
) -> None:
    hung = asyncio.Event()
    driver.holds = {"mine": hung}
    async with node.running():
        await registered(driver)
        claim(node, "p")
        claim(node, "q", name="other")
        use(node)
        await eventually(lambda: driver.asked("NodePrepareResources"))
        use(node, "q", claim="other")
        await runs(node, "q")
        assert node.pod()["status"]["phase"] == "Pending"
        hung.set()
        await runs(node)


async def test_extended_resources_have_a_claim_too(node: Node, driver: DeviceDriver) -> None:
    claim(node, "p")
    node.bind("p")
    mapping = {"containerName": "c", "resourceName": "a.b/gpu", "requestName": "b"}
    said = {"resourceClaimName": "mine", "requestMappings": [mapping]}
    status = {"phase": "Pending", "extendedResourceClaimStatus": said}
    node.api.put(f"{PODS}/p", node.pod() | {"status": status})
    async with node.running():
        await registered(driver)
        await node.clock.advance(1)
        await runs(node)
        assert [dict(spec.env).get("GPU") for spec in node.runtime.specs.values()] == ["two"]
        node.delete("p", 0)
        await eventually(lambda: driver.asked("NodeUnprepareResources"))


async def test_what_cannot_be_prepared_is_told_and_tried_again(
    node: Node, driver: DeviceDriver
) -> None:
    async with node.running():
        claim(node)
        use(node)
        said = "Failed to prepare dynamic resources: prepare dynamic resources: "
        text = f"{said}pod p (uid-p) is not allowed to use ResourceClaim mine (uid-mine)"
        await eventually(lambda: text in warnings(node))
        claim(node, "p")
        await node.clock.advance(1)
        await eventually(lambda: f"{said}DRA driver {NAME} is not registered" in warnings(node))
        driver.errors = {"mine": "it is broken"}
        await registered(driver)
        await node.clock.advance(10)
        text = f"{said}NodePrepareResources failed for ResourceClaim mine: it is broken"
        await eventually(lambda: text in warnings(node))
        driver.errors = {}
        await node.clock.advance(30)
        await runs(node)


async def test_another_agent_gives_back_what_the_first_has_prepared(
    node: Node, driver: DeviceDriver
) -> None:
    async with node.running():
        await registered(driver)
        claim(node, "p")
        use(node)
        await runs(node)
    del node.api.objects[f"{PODS}/p"]
    async with node.running():
        await eventually(lambda: len(driver.registered) == 2)
        await node.clock.advance(1)
        await eventually(lambda: driver.asked("NodeUnprepareResources"))


async def test_the_slices_of_a_driver_that_stays_away_are_taken_away(
    node: Node, driver: DeviceDriver
) -> None:
    def wiped() -> bool:
        return any(path.endswith("/resourceslices") for path, _ in node.api.deletes)

    async with node.running():
        await registered(driver)
        await driver.stop()
        assert node.agent is not None
        plugins = node.agent.providers.plugins()
        await eventually(lambda: not plugins.names)
        await node.clock.advance(20)
        await driver.start()
        await eventually(lambda: plugins.names)
        await node.clock.advance(20)
        assert not wiped()
        await driver.stop()
        await eventually(lambda: not plugins.names)
        await node.clock.advance(30)
        await eventually(wiped)


async def test_a_driver_of_an_unknown_version_is_told_so(node: Node, driver: DeviceDriver) -> None:
    driver.versions = ["v1alpha4.Node"]
    async with node.running():
        await registered(driver)
        done, why = driver.registered[0]
        assert not done
        assert "none of the gRPC service versions ['v1alpha4.Node']" in why


def test_what_cdi_says_is_put_into_a_container() -> None:
    specs = [msgspec.convert(EDITS, cdi.Spec)]
    spec = ContainerSpec("i", "m", ("sh",), [("PATH", "/bin")], security=Security(gid=1))
    found = cdi.applied(spec, cdi.edits_of(["example.com/gpu=one"], specs))
    assert found.env == [("ALL", "1"), ("GPU", "one"), ("PATH", "/gpu")]
    options = ("rbind", "ro", "nosuid", "nodev")
    assert found.mounts == [Mount("/gpu", "/opt/gpu", "bind", options)]
    assert found.security.supplemental_gids == [44]
    assert found.hooks == {"createContainer": [{"path": "/bin/hook", "args": ["hook"]}]}
    with pytest.raises(cdi.CdiError, match="unresolvable CDI devices"):
        cdi.edits_of(["example.com/gpu=three"], specs)


def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.yaml").write_text("- a")
    (tmp_path / "good.yaml").write_text(msgspec.yaml.encode(EDITS).decode())
    assert [spec.kind for spec in cdi.read((tmp_path, tmp_path / "none"))] == ["example.com/gpu"]
