"""What the keeper of policies remembers of addresses."""

from __future__ import annotations

from sampan.aio.tasks import Supervisor
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.proxy.families import IPV4
from sampan.proxy.policy.run import PolicyKeeper
from tests.kit.feed import Feed


async def test_an_address_is_the_new_pods_also_while_there_are_no_policies() -> None:
    """The first policy after that is about the new pod, whoever had the address before."""
    supervisor = Supervisor()
    keeper = PolicyKeeper(Informers(Client(Feed()), supervisor), "c", "n1")
    keeper._attached["former"] = ("10.0.0.5",)
    await keeper.admit("new", "10.0.0.5")
    pod = {
        "metadata": {"namespace": "ns", "name": "web", "uid": "new"},
        "spec": {"nodeName": "n1"},
        "status": {"podIP": "10.0.0.5"},
    }
    found = keeper._facts(pod, IPV4)
    assert found is not None
    assert found.ip == "10.0.0.5"
    await supervisor.stop()
