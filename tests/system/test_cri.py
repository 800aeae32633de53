"""Real containers by Debian's containerd over CRI, in a node's mount namespace of their own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.linux import mounts
from sampan.node.pause import pause_archive
from sampan.runtime.cri.containerd import Containerd
from sampan.runtime.cri.images import CriImages
from sampan.runtime.cri.messages import NAME, POD_NAME, POD_NAMESPACE, POD_UID
from sampan.runtime.cri.runtime import CriRuntime
from sampan.runtime.interface import (
    ContainerSpec,
    Mount,
    Resources,
    RuntimeFailure,
    Security,
    State,
)  # fmt: skip
from sampan.runtime.streams import collect
from tests.kit.containers import container_spec, next_exit, node_namespace
from tests.kit.images import busybox_archive

pytestmark = pytest.mark.root

ROOT = "sampan-test-cri"
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node's folders; at the end nothing may be left of containerd and its containers."""
    place = tmp_path_factory.mktemp("cri")
    with node_namespace(place, ROOT):
        network = place / "network"
        network.touch()
        subprocess.run(["unshare", f"--net={network}", "true"], check=True)
        yield place
        mounts.unmount(network)
        assert not [one for one in mounts.list_mounts() if one.target.is_relative_to(place)]


@asynccontextmanager
async def opened(place: Path) -> AsyncIterator[tuple[CriRuntime, CriImages]]:
    server = Containerd(place / "data", place / "run")
    runtime = CriRuntime(server, place / "run", ROOT, pause_archive())
    await runtime.open()
    yield runtime, runtime.images
    await runtime.close()


def make_spec(place: Path, image: str, *args: str, **fields: Any) -> ContainerSpec:
    (place / "logs").mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "cgroup_parent": "kubepods/podu1",
        "security": Security(capabilities=["CAP_CHOWN", "CAP_KILL"]),
        "network_namespace": str(place / "network"),
        "annotations": {POD_UID: "u1", POD_NAME: "p", POD_NAMESPACE: "n", NAME: "c"},
    }
    return container_spec(image, args, place / "logs", **{**values, **fields})


def kill_server(place: Path) -> None:
    subprocess.run(["pkill", "-KILL", "-f", f"^containerd .*{place}"], check=True)


async def test_a_pod_over_containerd(place: Path) -> None:
    """From an archive to an exit code, with logs, volumes, limits, commands, and an agent that
    starts again in between."""
    async with asyncio.timeout(LIMIT_S), opened(place) as (runtime, images):
        (image,) = await images.load(busybox_archive(place / "busybox.tar"))
        assert images.find("busybox:test") == image
        assert image.command == ["sh"]
        (place / "volume").mkdir()
        (place / "volume/file").write_text("mine\n")

        (layer,) = await images.open_layers(image.id)
        assert (layer / "bin/busybox").is_file()

        script = "echo $GREETING; echo problem >&2; hostname; cat /v/file; id -u; exit 3"
        volume = Mount("/v", str(place / "volume"), options=("rbind", "ro"))
        spec = make_spec(place, image.id, "sh", "-c", script, mounts=[volume])
        made = await runtime.create(spec)
        assert (made.state, made.image) == (State.CREATED, image.id)
        await runtime.start(made.id)
        gone = await next_exit(runtime)
        assert (gone.id, gone.exit_code, gone.state) == (made.id, 3, State.EXITED)
        assert gone.annotations[POD_UID] == "u1"
        lines = [line.split(" ", 1)[1] for line in spec.log_path.read_text().splitlines()]
        told = ["stderr F problem", "stdout F 0", "stdout F box", "stdout F hello", "stdout F mine"]
        assert sorted(lines) == told

        talk = (await runtime.create(make_spec(place, image.id, "sh", stdin=True))).id
        await runtime.start(talk)
        streams = await runtime.attach(talk)
        await streams.write(b"echo $((1+1)); exit 6\n")
        assert await collect(streams, 100) == (b"2\n", 6)
        assert (await next_exit(runtime)).id == talk
        await runtime.delete(talk)

        limits = Resources(memory_limit_bytes=64 << 20, cpu_shares=512)
        spec = make_spec(place, image.id, "sleep", "1000", resources=limits)
        long = (await runtime.create(spec)).id
        assert (await runtime.start(long)).state == State.RUNNING
        assert runtime.usage(long).pids == 1
        assert sorted(await images.users(image.id)) == sorted([made.id, long])
        runtime.limit(long, Resources(memory_limit_bytes=96 << 20, cpu_shares=512))
        streams = await runtime.exec(long, ["sh", "-c", "ls /sys/class/net; exit 4"])
        assert await collect(streams, 100) == (b"lo\n", 4)

    async with asyncio.timeout(LIMIT_S), opened(place) as (runtime, images):
        assert {item.id: item.state for item in runtime.list()} == {
            made.id: State.EXITED,
            long: State.RUNNING,
        }
        assert (await next_exit(runtime)).id == made.id
        # Whoever ends containerd ends no container.
        kill_server(place)
        await runtime.kill(long, signal.SIGKILL)
        gone = await next_exit(runtime)
        assert (gone.id, gone.exit_code) == (long, 137)
        with pytest.raises(RuntimeFailure, match="user namespace is not supported"):
            await runtime.create(make_spec(place, image.id, "x", user_namespace=(100000, 65536)))
        missing = await runtime.create(make_spec(place, image.id, "/no/such/program"))
        with pytest.raises(RuntimeFailure, match=r"no such program|not found|No such file"):
            await runtime.start(missing.id)
        await images.remove("busybox:test")
        assert images.list() == []
        await runtime.purge(0.0)
