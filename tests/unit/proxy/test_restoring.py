"""What the kernel refuses is said, and changes nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sampan.aio.tasks import Supervisor
from sampan.client.api import Client
from sampan.client.events import EventRecorder
from sampan.client.informer import Informers
from sampan.linux.nft import Nft, NftError
from sampan.proxy.policy.run import PolicyKeeper
from sampan.proxy.run import Proxy, ProxyConfig
from tests.kit.feed import Feed


class Refusing(Nft):
    async def apply(self, script: str) -> None:
        raise NftError("line 7: no")


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def event(self, about: dict[str, str], *said: str) -> None:
        self.events.append((about["kind"], about["name"], *said))


@pytest.mark.parametrize("what", ["Service", "Policy"])
async def test_refused_rules_are_told_of_the_node(what: str) -> None:
    told = Told()
    recorder = cast(EventRecorder, told)
    supervisor = Supervisor()
    informers = Informers(Client(Feed()), supervisor)
    maker = (
        Proxy(informers, ProxyConfig("c", "n1", "10.0.0.0/24"), Refusing(), recorder)
        if what == "Service"
        else PolicyKeeper(informers, "c", "n1", Refusing(), recorder=recorder)
    )
    with pytest.raises(NftError):
        await maker._rebuild(maker._sides[0])
    text = "nftables refused new rules, the old ones stay: line 7: no"
    assert told.events == [("Node", "n1", "Warning", f"{what}RulesRefused", text)]
    await supervisor.stop()
