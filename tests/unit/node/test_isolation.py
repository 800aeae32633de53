"""What is a pod's own: processors, user ids, shares of its class, its runtime's handler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sampan.node.apparmor import default_profile
from sampan.node.config import NodeConfig
from sampan.node.configuration import configuration
from sampan.node.cpus import CpuSets, NotEnough, cpus_text, exclusive, parse_cpus
from sampan.node.pinning import Pinning
from sampan.node.settings import Settings, parse_settings
from sampan.node.userids import COUNT, SLOTS, first_id
from sampan.runtime.bundle import Surroundings, build_config
from sampan.runtime.interface import ContainerSpec, Mount
from tests.kit.onenode import Node, no_server


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    return Node(tmp_path)


@pytest.mark.parametrize("text", ["", "0", "0-3", "0,2-3,7"])
def test_lists_of_processors(text: str) -> None:
    assert cpus_text(parse_cpus(text)) == text


def test_whole_cores_are_given_first() -> None:
    # Four cores of two threads each: 0 and 4 are one, and so on.
    core_of = {cpu: cpu % 4 for cpu in range(8)}
    sets = CpuSets(frozenset(range(8)), frozenset({0, 4}), core_of)
    assert sets.take("a/c", 2) == {1, 5}
    assert sets.take("a/c", 2) == {1, 5}
    assert sets.take("b/c", 3) == {2, 6, 3}
    assert sets.shared == {0, 4, 7}
    with pytest.raises(NotEnough, match="requested=2, available=1"):
        sets.take("c/c", 2)
    assert sets.release("a/")
    assert sets.take("c/c", 2) == {1, 5}
    whole = CpuSets(frozenset(range(8)), frozenset({0, 4}), core_of, full_cores=True)
    with pytest.raises(NotEnough):
        whole.take("a/c", 3)


def guaranteed(cpu: str) -> dict[str, Any]:
    amounts = {"cpu": cpu, "memory": "1Mi"}
    return {"name": "c", "resources": {"requests": amounts, "limits": amounts}}


@pytest.mark.parametrize(("cpu", "count"), [("2", 2), ("1500m", 0), ("100m", 0)])
def test_who_has_processors_of_its_own(cpu: str, count: int) -> None:
    container = guaranteed(cpu)
    assert exclusive({"containers": [container]}, container) == count
    container["resources"]["requests"] = {"cpu": cpu}
    container["resources"]["limits"] = {"cpu": cpu}
    assert exclusive({"containers": [container]}, container) == 0


async def test_a_pinned_container_leaves_the_rest_to_the_others(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr("sampan.node.pinning.cores", lambda: {cpu: cpu for cpu in range(4)})
    chosen = Settings(static_cpus=True, reserved_cpus="0")
    async with node.running() as agent:
        pinning = Pinning(agent.config.data, chosen)
        agent.keeper.pinning = pinning
        node.bind("shares")
        await node.until(lambda: node.container("shares")["ready"])
        first = node.runtime.only()
        assert node.runtime.specs[first.id].resources.cpuset == "0-3"
        node.bind("pinned", container=guaranteed("2"))
        await node.until(lambda: node.container("pinned")["ready"])
        (second,) = (item for item in node.runtime.running() if item.id != first.id)
        assert node.runtime.specs[second.id].resources.cpuset == "1-2"
        assert node.runtime.pinned == {first.id: "0,3"}
        again = Pinning(agent.config.data, chosen)
        assert again.processors(agent.workers["uid-shares"], {"name": "c"}) == "0,3"
        node.bind("greedy", container=guaranteed("2"))
        await node.until(lambda: node.pod("greedy")["status"]["phase"] == "Failed")
        assert node.pod("greedy")["status"]["reason"] == "UnexpectedAdmissionError"
        node.delete("pinned", 0)
        await node.until(lambda: node.runtime.pinned[first.id] == "0-3")


async def test_classes_of_quality_have_their_shares(node: Node) -> None:
    async with node.running():
        node.bind("a", container={"resources": {"requests": {"cpu": "500m"}}})
        node.bind("b", container={"resources": {"requests": {"cpu": "1500m"}}})
        node.bind("c")
        await node.until(lambda: all(node.container(name)["ready"] for name in "abc"))
        assert node.runtime.classes["kubepods/burstable"].cpu_shares == 2048
        assert node.runtime.classes["kubepods/besteffort"].cpu_shares == 2
        node.delete("b", 0)
        await node.until(lambda: node.runtime.classes["kubepods/burstable"].cpu_shares == 512)


async def test_a_class_without_its_handler_says_so(node: Node) -> None:
    classes = "/apis/node.k8s.io/v1/runtimeclasses"
    node.api.put(f"{classes}/good", {"handler": "crun"})
    node.api.put(f"{classes}/bad", {"handler": "gvisor"})
    async with node.running():
        node.bind("p", runtimeClassName="bad")
        await node.until(lambda: "FailedCreatePodSandBox" in node.reasons())
        (text,) = (text for _, why, text in node.api.events() if why == "FailedCreatePodSandBox")
        assert text.endswith('failed to get sandbox runtime: no runtime for "gvisor" is configured')
        node.bind("q", runtimeClassName="good")
        await node.until(lambda: node.container("q")["ready"])


def test_no_two_pods_have_the_same_ids(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first = first_id(tmp_path, "a")
    assert first == first_id(tmp_path, "a") == COUNT
    assert first_id(tmp_path, "b") == 2 * COUNT


def test_pods_of_two_nodes_of_a_machine_have_no_ids_in_common(tmp_path: Path) -> None:
    """The nodes share a kernel, in which ids are ids, and look at nothing of each other's."""
    for number in (1, 2, 64):
        (tmp_path / f"{number}/a").mkdir(parents=True)
    found = [first_id(tmp_path / str(number), "a", number) for number in (1, 2, 64)]
    assert found == [COUNT, COUNT * (SLOTS + 1), COUNT * (63 * SLOTS + 1)]
    assert COUNT * (64 * SLOTS + 1) < 1 << 32


def test_a_user_namespace_maps_volumes_too() -> None:
    spec = ContainerSpec(
        id="c", image="i", args=["x"], env=(), user_namespace=(65536, 65536),
        mounts=[Mount("/data", "/vol", options=("rbind", "rw"))],
        sysctls={"net.core.somaxconn": "9"},
    )  # fmt: skip
    config = build_config(spec, Surroundings(rootfs="/r", cgroup="/g"))
    mapping = [{"containerID": 0, "hostID": 65536, "size": 65536}]
    assert config["linux"]["uidMappings"] == config["linux"]["gidMappings"] == mapping
    assert {"type": "user"} in config["linux"]["namespaces"]
    (volume,) = (item for item in config["mounts"] if item["destination"] == "/data")
    assert volume["options"][-1] == "idmap=uids=0-65536-65536;gids=0-65536-65536"
    assert config["linux"]["sysctl"] == {"net.core.somaxconn": "9"}


def test_apparmors_default_is_one_that_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "profiles"
    assert default_profile(path) == ""
    path.write_text("man (enforce)\ncontainers-default-0.57 (enforce)\n")
    assert default_profile(path) == "containers-default-0.57"


def test_configz_is_a_configuration(tmp_path: Path) -> None:
    config = NodeConfig(
        name="n", data=tmp_path, run=tmp_path, address="", pod_cidr="", dns_ip="",
        ca_cert=tmp_path, cert=tmp_path, key=tmp_path,
        settings=Settings(max_pods=5, reserved_cpus="0"),
    )  # fmt: skip
    assert parse_settings(configuration(config)) == config.settings
