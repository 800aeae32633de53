"""Why a machine does not join, where no server is needed to say so."""

from __future__ import annotations

import ssl
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sampan.api.resources import api_resource
from sampan.client.api import Client
from sampan.client.interface import WatchEvent
from sampan.daemon import config, joining
from sampan.daemon.child import Refused
from sampan.paths import ClusterPaths
from tests.kit.feed import Feed

SERVER = "https://192.0.2.1:6443"


def child(folder: Path) -> Any:
    paths = ClusterPaths("c", folder / "data", folder / "run")
    return SimpleNamespace(paths=paths, options=Namespace(server=SERVER, node_name="n"))


@pytest.mark.parametrize("why", ["certificate is not yet valid", "certificate has expired"])
async def test_a_clock_that_is_wrong_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    async def fail(*_: Any) -> None:
        raise ssl.SSLCertVerificationError(1, f"certificate verify failed: {why}")

    monkeypatch.setattr(joining, "_certify_client", fail)
    with pytest.raises(Refused, match="not valid at this machine's time"):
        await joining.join(child(tmp_path))
    # A node that joined before lives on by what was agreed: its clock may be set right.
    known = config.ClusterConfig("c", 0, "n", "10.244.0.0/16", "10.96.0.0/12", "h", 1, "i")
    config.write(child(tmp_path).paths, known)
    monkeypatch.setattr(joining, "_register", fail)
    assert (await joining.join(child(tmp_path))).cluster == known


async def test_a_server_that_is_away_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise ConnectionRefusedError("connection refused")

    monkeypatch.setattr(joining, "_certify_client", fail)
    with pytest.raises(OSError, match=f"cannot reach {SERVER}: connection refused"):
        await joining.join(child(tmp_path))


def test_the_time_is_shown_as_it_is_here() -> None:
    assert "2026-01-02 03:04:05 UTC" in joining.wrong_clock(SERVER, 1767323045.0)


async def test_an_address_that_another_node_has_is_not_told() -> None:
    """Behind NAT, machines at places of their own have the same: each must be certified for its
    own."""
    feed = Feed()
    addresses = [{"type": "InternalIP", "address": "192.168.1.2"}]
    other = {"metadata": {"name": "a"}, "status": {"addresses": addresses}}
    await feed.put("/api/v1/nodes/a", other)
    client = Client(feed)
    assert await joining.is_shared(client, "b", "192.168.1.2")
    assert not await joining.is_shared(client, "b", "192.168.1.3")
    assert not await joining.is_shared(client, "a", "192.168.1.2")
    cluster = config.ClusterConfig(
        name="c", slot=0, node_name="b", pod_cidr="10.244.0.0/16", service_cidr="10.96.0.0/16",
        listen_host="192.0.2.1", listen_port=6443, identity="i", node_cidr="10.244.2.0/24",
        address="192.168.1.2", shares_address=True,
    )  # fmt: skip
    assert cluster.address_of_node == "10.244.2.1"
    assert cluster.underlay == "192.168.1.2"


async def test_watches_that_end_at_once_are_begun_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hasty(Feed):
        lists = 0

        async def request(self, method: str, path: str, **other: Any) -> Any:
            self.lists += 1
            items = [{"metadata": {"name": "n"}, "done": self.lists == 6}]
            return {"items": items, "metadata": {"resourceVersion": "1"}}

        async def watch(self, path: str, query: Any) -> AsyncIterator[WatchEvent]:
            for _ in ():
                yield

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    paused: list[float] = []
    monkeypatch.setattr(joining.asyncio, "sleep", pause)
    nodes = api_resource("nodes")
    found = await joining._wait(Client(Hasty()), nodes, "n", lambda item: item["done"])
    assert found["done"]
    assert len(paused) == 5
    assert paused == sorted(paused)
    assert paused[-1] >= 16 * 0.05
