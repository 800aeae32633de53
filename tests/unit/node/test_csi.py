"""CSI volumes: a real driver over its sockets, an agent with everything else faked."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status

from sampan.api.volumes import csi_attachment
from sampan.node.csi.source import Source, takes_group
from tests.kit.clock import settle
from tests.kit.csidriver import Driver
from tests.kit.onenode import PODS, Node, no_server

NAME = "csi.example.com"
STORAGE = "/apis/storage.k8s.io/v1"
OBJECT = f"{STORAGE}/csidrivers/{NAME}"
CLAIM = "/api/v1/namespaces/default/persistentvolumeclaims/c"
VOLUME = "/api/v1/persistentvolumes/pv"
SECRET = "/api/v1/namespaces/default/secrets/s"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    monkeypatch.setattr("sampan.node.volumes.kubelet.Kubelet.path", lambda self, path: path)
    made = Node(tmp_path)
    made.api.put(SECRET, {"data": {"user": b64encode(b"me").decode()}})
    return made


@pytest.fixture
async def driver(node: Node, tmp_path: Path) -> AsyncIterator[Driver]:
    driver = Driver(NAME, tmp_path / "plugin", tmp_path / "data/plugins_registry")
    driver.mount = lambda source, target: node.kernel.points.append(target)

    def unmount(target: Path) -> None:
        if target in node.kernel.points:
            node.kernel.points.remove(target)

    driver.unmount = unmount
    yield driver
    await driver.stop()


def describe(node: Node, **spec: Any) -> None:
    node.api.put(OBJECT, {"spec": {"attachRequired": False} | spec})


def persist(node: Node, **csi: Any) -> None:
    claim = {
        "metadata": {"uid": "uid-c"},
        "spec": {"volumeName": "pv"},
        "status": {"phase": "Bound"},
    }
    source = {"driver": NAME, "volumeHandle": "h", "volumeAttributes": {"a": "b"}} | csi
    spec = {"claimRef": {"uid": "uid-c"}, "csi": source, "accessModes": ["ReadWriteOnce"]}
    node.api.put(CLAIM, claim)
    node.api.put(VOLUME, {"spec": spec})


def use(node: Node, name: str = "p", source: dict[str, Any] | None = None, **spec: Any) -> None:
    found = source or {"persistentVolumeClaim": {"claimName": "c"}}
    node.bind(name, volumes=[{"name": "v", **found}], **spec)


async def runs(node: Node, name: str = "p") -> None:
    await eventually(lambda: node.pod(name)["status"]["phase"] == "Running")


async def registered(driver: Driver) -> None:
    await driver.start()
    await eventually(lambda: driver.registered)


async def eventually(check: Any) -> None:
    """The driver answers in its own time: sockets are real, the clock is not."""
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.002)
            await settle()


async def gone(node: Node, name: str = "p") -> None:
    node.delete(name, 0)
    await eventually(lambda: f"{PODS}/{name}" not in node.api.objects)


async def test_a_driver_registers_and_goes(node: Node, driver: Driver) -> None:
    driver.topology, driver.max_volumes = {"example.com/zone": "a"}, 7
    entry = {
        "name": NAME, "nodeID": "id-of-n1", "topologyKeys": ["example.com/zone"],
        "allocatable": {"count": 7},
    }  # fmt: skip
    async with node.running():
        assert node.api.objects[f"{STORAGE}/csinodes/n1"]["spec"] == {"drivers": []}
        await registered(driver)
        assert driver.registered == [(True, "")]
        assert node.api.objects[f"{STORAGE}/csinodes/n1"]["spec"] == {"drivers": [entry]}
        meta = node.api.objects["/api/v1/nodes/n1"]["metadata"]
        assert meta["labels"]["example.com/zone"] == "a"
        known = meta["annotations"]["csi.volume.kubernetes.io/nodeid"]
        assert json.loads(known) == {NAME: "id-of-n1"}
        await driver.stop()
        objects = node.api.objects
        await eventually(lambda: not objects[f"{STORAGE}/csinodes/n1"]["spec"]["drivers"])
        assert "annotations" not in meta or not node.agent.providers.drivers()._known


async def test_how_many_volumes_fit_is_asked_again(node: Node, driver: Driver) -> None:
    """CSIDriver's nodeAllocatableUpdatePeriodSeconds; at once when an attachment found no room."""
    driver.max_volumes = 7

    def count() -> int:
        (entry,) = node.api.objects[f"{STORAGE}/csinodes/n1"]["spec"]["drivers"]
        return int(entry["allocatable"]["count"])

    async with node.running() as agent:
        await registered(driver)
        assert count() == 7
        driver.max_volumes = 5
        describe(node, nodeAllocatableUpdatePeriodSeconds=60)
        await settle()
        await node.clock.advance(59)
        assert len(driver.asked("NodeGetInfo")) == 1
        await node.clock.advance(2)
        await eventually(lambda: count() == 5)
        driver.max_volumes = 4
        await settle()
        agent.providers.drivers().get(NAME).exhausted.set()
        await eventually(lambda: count() == 4)


async def test_a_driver_that_fails_is_told_so_and_tried_again(node: Node, driver: Driver) -> None:
    driver.fail["NodeGetInfo"] = (Status.INTERNAL, "not yet")
    async with node.running():
        await registered(driver)
        text = "RegisterPlugin error -- rpc error: code = Internal desc = not yet"
        assert driver.registered == [(False, text)]
        await node.clock.advance(1)
        await eventually(lambda: len(driver.registered) == 2)
        assert driver.registered[1] == (True, "")


async def test_stage_publish_and_back(node: Node, driver: Driver) -> None:
    describe(node, podInfoOnMount=True, tokenRequests=[{"audience": "a"}])
    secret = {"name": "s", "namespace": "default"}
    persist(node, fsType="ext4", nodeStageSecretRef=secret, nodePublishSecretRef=secret)
    async with node.running():
        await registered(driver)
        use(node)
        await runs(node)
        staged, published = driver.asked("NodeStageVolume")[0], driver.asked("NodePublishVolume")[0]
        assert (staged["volume_id"], staged["secrets"]) == ("h", {"user": "me"})
        assert staged["volume_capability"]["mount"]["fs_type"] == "ext4"
        assert staged["volume_capability"]["access_mode"] == {"mode": 1}
        target = node.tmp / "data/pods/uid-p/volumes/kubernetes.io~csi/pv/mount"
        assert published["target_path"] == str(target)
        assert published["staging_target_path"] == staged["staging_target_path"]
        context = published["volume_context"]
        assert context.pop("csi.storage.k8s.io/serviceAccount.tokens").startswith('{"a":{"token"')
        assert context == {
            "a": "b",
            "csi.storage.k8s.io/pod.name": "p",
            "csi.storage.k8s.io/pod.namespace": "default",
            "csi.storage.k8s.io/pod.uid": "uid-p",
            "csi.storage.k8s.io/serviceAccount.name": "",
            "csi.storage.k8s.io/ephemeral": "false",
        }
        # A second pod of the node is published to, and the volume stays staged for it.
        use(node, "q")
        await runs(node, "q")
        await gone(node)
        assert driver.asked("NodeUnpublishVolume") == [
            {"volume_id": "h", "target_path": str(target)}
        ]
        assert not driver.asked("NodeUnstageVolume")
        await gone(node, "q")
        assert len(driver.asked("NodeUnstageVolume")) == 1
        await eventually(lambda: not (node.tmp / "data/pods/uid-q").exists())
        assert not [point for point in node.kernel.points if "csi" in str(point)]
        assert not [*(node.tmp / "data/plugins/kubernetes.io/csi" / NAME).iterdir()]


async def test_inline_volumes_have_a_handle_of_the_pods(node: Node, driver: Driver) -> None:
    describe(node, volumeLifecycleModes=["Ephemeral"], podInfoOnMount=True)
    source = {
        "csi": {
            "driver": NAME,
            "volumeAttributes": {"x": "y"},
            "nodePublishSecretRef": {"name": "s"},
        }
    }
    async with node.running():
        await registered(driver)
        use(node, source=source)
        await runs(node)
        message = driver.asked("NodePublishVolume")[0]
        assert message["volume_id"].startswith("csi-")
        assert message["secrets"] == {"user": "me"}
        assert message["volume_context"]["csi.storage.k8s.io/ephemeral"] == "true"
        assert not driver.asked("NodeStageVolume")
        await gone(node)
        assert len(driver.asked("NodeUnpublishVolume")) == 1


async def test_what_fails_is_told_and_tried_again(node: Node, driver: Driver) -> None:
    describe(node)
    persist(node)
    async with node.running():
        use(node)
        await eventually(lambda: "FailedMount" in node.reasons())
        driver.fail["NodePublishVolume"] = (Status.INTERNAL, "broken")
        await registered(driver)
        await node.clock.advance(0.6)
        await eventually(lambda: len(node.api.events()) > 1)
        await node.clock.advance(1.1)
        await runs(node)
        start = 'MountVolume.{} failed for volume "pv" : '
        assert [text for _, reason, text in node.api.events() if reason == "FailedMount"] == [
            start.format("MountDevice")
            + "kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: "
            f"driver name {NAME} not found in the list of registered CSI drivers",
            start.format("SetUp") + "rpc error: code = Internal desc = broken",
        ]


async def test_a_pod_of_no_driver_can_be_deleted(node: Node) -> None:
    persist(node)
    describe(node)
    async with node.running():
        use(node)
        await eventually(lambda: "FailedMount" in node.reasons())
        await gone(node)


async def test_an_attached_volume_is_in_use_until_it_is_unmounted(
    node: Node, driver: Driver
) -> None:
    describe(node, attachRequired=True)
    persist(node)
    status = node.api.objects
    async with node.running():
        await registered(driver)
        use(node)
        await eventually(lambda: status["/api/v1/nodes/n1"]["status"].get("volumesInUse"))
        assert status["/api/v1/nodes/n1"]["status"]["volumesInUse"] == [
            f"kubernetes.io/csi/{NAME}^h"
        ]
        assert not driver.asked("NodeStageVolume")
        # Nobody attaches it: after two minutes that is told.
        for _ in range(200):
            await node.clock.advance(1)
        text = "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[v], "
        text += "failed to process volumes=[]: context deadline exceeded"
        await eventually(lambda: ("Warning", "FailedMount", text) in node.api.events())
        path = f"{STORAGE}/volumeattachments/{csi_attachment('h', NAME, 'n1')}"
        told = {"attached": True, "attachmentMetadata": {"disk": "/dev/x"}}
        node.api.put(path, {"status": told})
        await node.clock.advance(130)
        await runs(node)
        assert driver.asked("NodeStageVolume")[0]["publish_context"] == {"disk": "/dev/x"}
        assert driver.asked("NodePublishVolume")[0]["publish_context"] == {"disk": "/dev/x"}
        await gone(node)
        assert not status["/api/v1/nodes/n1"]["status"].get("volumesInUse")


async def test_a_block_volume_is_published_as_a_device(node: Node, driver: Driver) -> None:
    describe(node)
    persist(node, fsType="ext4")
    node.api.objects[VOLUME]["spec"]["volumeMode"] = "Block"
    device = {"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}
    driver.fail["NodePublishVolume"] = (Status.INTERNAL, "not now")
    async with node.running():
        await registered(driver)
        use(node, container=device)
        await eventually(lambda: "FailedMapVolume" in node.reasons())
        text = 'MapVolume.MapPodDevice failed for volume "pv" : rpc error: code = Internal'
        assert text in str(node.api.events())
        await node.clock.advance(1)
        await runs(node)
        staged, published = driver.asked("NodeStageVolume")[0], driver.asked("NodePublishVolume")[1]
        assert published["volume_capability"] == {
            "block": {}, "mount": None, "access_mode": {"mode": 1},
        }  # fmt: skip
        blocks = node.tmp / "data/plugins/kubernetes.io/csi/volumeDevices"
        assert staged["staging_target_path"] == f"{blocks}/staging/pv"
        assert published["target_path"] == f"{blocks}/publish/pv/uid-p"
        (made,) = node.runtime.specs.values()
        assert [(item.target, item.source, item.access) for item in made.devices] == [
            ("/dev/x", f"{blocks}/publish/pv/uid-p", "mrw")
        ]
        await gone(node)
        assert [call for call, _ in driver.calls][-2:] == [
            "NodeUnpublishVolume",
            "NodeUnstageVolume",
        ]
        assert sorted(path.name for path in blocks.rglob("*")) == ["publish", "staging"]


async def test_a_volume_that_has_grown_is_grown_on_the_node(node: Node, driver: Driver) -> None:
    describe(node)
    persist(node)
    async with node.running():
        await registered(driver)
        use(node)
        await runs(node)
        assert not driver.asked("NodeExpandVolume")
        pending = {"type": "FileSystemResizePending", "status": "True"}
        status = {"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": [pending]}
        node.api.put(CLAIM, node.api.objects[CLAIM] | {"status": status})
        spec = node.api.objects[VOLUME]["spec"] | {"capacity": {"storage": "2Gi"}}
        node.api.put(VOLUME, node.api.objects[VOLUME] | {"spec": spec})
        await node.clock.advance(31)
        await eventually(lambda: driver.asked("NodeExpandVolume"))
        message = driver.asked("NodeExpandVolume")[0]
        assert message["capacity_range"] == {"required_bytes": 2 << 30, "limit_bytes": 0}
        assert message["volume_path"].endswith("/pv/mount")
        told = node.api.objects
        await eventually(lambda: told[CLAIM]["status"]["capacity"] == {"storage": "2Gi"})
        assert told[CLAIM]["status"]["conditions"] == []
        assert len(driver.asked("NodePublishVolume")) == 1


async def test_a_driver_may_ask_to_publish_again_and_again(node: Node, driver: Driver) -> None:
    describe(node, requiresRepublish=True, volumeLifecycleModes=["Ephemeral"])
    async with node.running():
        await registered(driver)
        use(node, source={"csi": {"driver": NAME}})
        await runs(node)
        for count in (2, 3):
            await node.clock.advance(61)
            await eventually(lambda count=count: len(driver.asked("NodePublishVolume")) == count)


async def test_another_agent_undoes_what_the_first_has_mounted(node: Node, driver: Driver) -> None:
    describe(node)
    persist(node)
    async with node.running():
        await registered(driver)
        use(node)
        await runs(node)
    del node.api.objects[f"{PODS}/p"]
    async with node.running():
        await eventually(lambda: driver.asked("NodeUnstageVolume"))
        await eventually(lambda: not (node.tmp / "data/pods/uid-p").exists())
    assert len(driver.asked("NodeUnpublishVolume")) == 1


async def test_a_driver_that_does_not_unmount_loses_nobodys_files(
    node: Node, driver: Driver, tmp_path: Path
) -> None:
    """It says that it has, and the files are still there: they are not removed with the pod."""
    describe(node)
    persist(node)
    async with node.running():
        await registered(driver)
        use(node)
        await runs(node)
        target = Path(driver.asked("NodePublishVolume")[0]["target_path"])
        (target / "precious").write_text("kept")
        driver._NodeUnpublishVolume = lambda message: {}  # type: ignore[method-assign]
        node.delete("p", 0)
        await eventually(lambda: driver.asked("NodeUnpublishVolume"))
        await settle()
        assert (target / "precious").read_text() == "kept"
        (target / "precious").unlink()
        await node.clock.advance(1)
        await eventually(lambda: f"{PODS}/p" not in node.api.objects)


@pytest.mark.parametrize(
    ("policy", "fs_type", "modes", "read_only", "given"),
    [
        ("File", "", ["ReadWriteMany"], False, True),
        ("File", "ext4", ["ReadWriteOnce"], True, False),
        ("None", "ext4", ["ReadWriteOnce"], False, False),
        ("ReadWriteOnceWithFSType", "ext4", ["ReadWriteOnce"], False, True),
        ("ReadWriteOnceWithFSType", "", ["ReadWriteOnce"], False, False),
        ("ReadWriteOnceWithFSType", "ext4", ["ReadWriteMany"], False, False),
    ],
)
def test_who_gives_a_volume_to_the_group(
    policy: str, fs_type: str, modes: list[str], read_only: bool, given: bool
) -> None:
    source = Source("pv", NAME, "h", fs_type, read_only, access_modes=modes)
    assert takes_group(source, policy) is given
