"""Whose credentials go to which registry, and who may use what is here already (KEP-2535)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from sampan.node.accesses import (
    ALWAYS_VERIFY,
    NEVER_VERIFY,
    NEVER_VERIFY_LISTED,
    NEVER_VERIFY_PRELOADED,
    Accesses,
)
from sampan.node.keyring import keys_for
from sampan.node.machine import CRASH_INITIAL_S, go_duration
from sampan.node.narration import Narrator
from sampan.node.pulls import Held, Pulls
from sampan.runtime.interface import Credentials, RegistryFailure
from tests.kit.clock import FakeClock
from tests.kit.runtime import BUSYBOX, FakeImages


def secret(name: str = "s", **auths: Any) -> dict[str, Any]:
    return packed(name, "kubernetes.io/dockerconfigjson", ".dockerconfigjson", {"auths": auths})


def packed(name: str, kind: str, key: str, body: Any) -> dict[str, Any]:
    data = {key: base64.b64encode(json.dumps(body).encode()).decode()}
    return {"type": kind, "data": data, "metadata": {"namespace": "n", "name": name, "uid": name}}


def auth(name: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:pw".encode()).decode()}


SECRETS = [
    {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "damaged"}},
    packed("opaque", "Opaque", ".dockerconfigjson", {"auths": {"r.io": auth("opaque")}}),
    secret(**{"https://index.docker.io/v1/": auth("hub"), "r.io": auth("all")}),
    secret(**{"r.io/team": auth("team"), "https://r.io:5000": {"username": "u", "password": "p"}}),
    packed("old", "kubernetes.io/dockercfg", ".dockercfg", {"*.w.io/v1/": auth("wild")}),
    secret(**{"r.io": auth("again"), "k8s.*": auth("end"), "": auth("none"), "a[": auth("bad")}),
    secret(**{"id.io": {"identitytoken": "t"}, "no.io": {"auth": "!"}, "list.io": []}),
]


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("nginx", ["hub"]),
        ("a/nginx:1", ["hub"]),
        ("docker.io/a/nginx@sha256:00", ["hub"]),
        ("localhost/a", ["hub"]),
        ("r.io/other/x", ["all", "again"]),
        ("r.io/team/x:1", ["team", "all", "again"]),
        ("r.io:5000/x", ["u"]),
        ("r.io:5001/x", []),
        ("evil.io/r.io/x", []),
        ("r.io.evil.io/x", []),
        ("a.w.io/x", ["wild"]),
        ("a.b.w.io/x", []),
        ("k8s.gcr/x", ["end"]),
        ("id.io/x", [""]),
        ("no.io/x", []),
    ],
)
def test_which_keys_are_tried(reference: str, found: Sequence[str]) -> None:
    assert [key.credentials.username for key in keys_for(reference, SECRETS)] == found


class Silent:
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def event(self, obj: Any, type: str, reason: str, message: str, **more: Any) -> None:
        self.said.append((reason, message))


class Bench:
    """One agent's pulls over images that the registry gives to whoever knows a password."""

    def __init__(self, folder: Path) -> None:
        self.images = FakeImages()
        self.recorder = Silent()
        self.folder = folder
        self.restart()

    def restart(self, policy: str = NEVER_VERIFY_PRELOADED, *listed: str) -> None:
        self.pulls = Pulls(self.images, FakeClock(), Accesses(self.folder, policy, listed))

    async def start(self, uid: str, *secrets: Any, policy: str = "IfNotPresent") -> str:
        """The last event's text, after a container of pod `uid` has asked for its image."""
        meta = {"uid": uid, "namespace": "n", "name": uid}
        container = {"name": "c", "image": "r.io/app:1", "imagePullPolicy": policy}
        pod = {"metadata": meta, "spec": {"containers": [container]}}
        try:
            await self.pulls.ensure(container, secrets, Narrator(self.recorder, pod))
        except Held as held:
            return f"{held.waiting.reason}: {held.waiting.message}"
        return self.recorder.said[-1][1].partition(" in ")[0]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "accesses")


HERE = 'Container image "r.io/app:1" already present on machine and can be accessed by the pod'
PULLED = 'Successfully pulled image "r.io/app:1"'


async def test_every_key_is_tried_and_their_failures_told_together(bench: Bench) -> None:
    asked: list[Credentials | None] = []

    async def pull(reference: str, credentials: Credentials | None = None) -> Any:
        asked.append(credentials)
        if credentials != Credentials("b", "pw"):
            raise RegistryFailure(f"not {credentials and credentials.username}")
        return BUSYBOX

    bench.images.pull = pull  # type: ignore[method-assign]
    two = [secret(**{"r.io": auth("a")}), secret(**{"r.io": auth("c")})]
    assert await bench.start("1", *two) == "ErrImagePull: [not a, not c]"
    assert await bench.start("2") == "ErrImagePull: not None"
    assert await bench.start("3", *two, secret(**{"r.io": auth("b")})) == PULLED


async def test_what_a_secret_brought_is_for_who_has_it(bench: Bench) -> None:
    bench.images.remote["r.io/app:1"] = BUSYBOX
    mine, same = secret("mine", **{"r.io": auth("a")}), secret("same", **{"r.io": auth("a")})
    assert await bench.start("1", mine) == PULLED
    bench.restart()
    assert not bench.pulls.is_free({"image": "r.io/app:1", "imagePullPolicy": "IfNotPresent"})
    assert await bench.start("2", mine) == HERE
    assert await bench.start("3", same) == HERE
    renewed = secret("mine", **{"r.io": auth("new")})
    assert await bench.start("4", renewed) == HERE, "the same secret with a new password"
    never = await bench.start("5", policy="Never")
    assert never == (
        'ErrImageNeverPull: Container image "r.io/app:1" is present with pull policy of Never but '
        "does not have the proper credentials to access the image"
    )
    bench.images.remote["r.io/app:1"] = RegistryFailure("denied")
    assert await bench.start("6") == "ErrImagePull: denied"
    bench.images.remote["r.io/app:1"] = BUSYBOX
    assert await bench.start("7") == PULLED
    assert await bench.start("8") == HERE, "the registry gives it to everybody"


async def test_what_came_just_before_its_agent_died_is_nobodys(bench: Bench) -> None:
    """Killed, or its pod gone, between the image's arrival and the record of who brought it."""
    arrived, over = asyncio.Event(), asyncio.Event()

    async def pull(reference: str, credentials: Credentials | None = None) -> Any:
        bench.images.here[reference] = brought
        arrived.set()
        await over.wait()
        return brought

    brought = structs.replace(
        BUSYBOX, tags=("r.io/app:1",), digests=("r.io/app@sha256:" + "d" * 64,)
    )
    by_pull, bench.images.pull = bench.images.pull, pull  # type: ignore[method-assign]
    mine = secret(**{"r.io": auth("a")})
    pod = asyncio.create_task(bench.start("1", mine))
    await arrived.wait()
    image = {"image": "r.io/app:1", "imagePullPolicy": "IfNotPresent"}
    assert not bench.pulls.is_free(image), "while it comes"
    pod.cancel()
    await asyncio.gather(pod, return_exceptions=True)
    assert not bench.pulls.is_free(image), "its pod is gone"
    bench.restart()
    assert not bench.pulls.is_free(image), "the agent too"
    assert not [*(bench.folder / "pulling").iterdir()]
    bench.images.pull = by_pull  # type: ignore[method-assign]
    bench.images.remote["r.io/app:1"] = brought
    assert await bench.start("2", mine) == PULLED
    assert await bench.start("3", mine) == HERE


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.0004, "0s"), (0.8714, "871ms"), (1, "1s"), (10, "10s"), (2.5, "2.5s"),
        (80, "1m20s"), (62.25, "1m2.25s"), (300, "5m0s"), (3600, "1h0m0s"),
    ],
)  # fmt: skip
def test_durations_read_as_gos(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


async def test_other_policies_of_who_may_use_what_is_here(bench: Bench) -> None:
    image = {"image": "r.io/app:1", "imagePullPolicy": "IfNotPresent"}
    bench.images.here["r.io/app:1"] = BUSYBOX
    for policy, listed, free in (
        (ALWAYS_VERIFY, (), False),
        (NEVER_VERIFY_LISTED, ("r.io/ap",), False),
        (NEVER_VERIFY_LISTED, ("r.io/a*",), True),
        (NEVER_VERIFY_LISTED, ("x.io/*", "r.io/app"), True),
        (NEVER_VERIFY, (), True),
    ):
        bench.restart(policy, *listed)
        assert bench.pulls.is_free(image) is free, (policy, listed)
    bench.restart(ALWAYS_VERIFY)
    bench.images.remote["r.io/app:1"] = BUSYBOX
    assert await bench.start("1") == PULLED
    bench.restart(ALWAYS_VERIFY)
    assert await bench.start("2") == HERE, "the registry gives it to everybody"


async def test_what_came_otherwise_is_everybodys(bench: Bench) -> None:
    bench.images.here["r.io/app:1"] = BUSYBOX
    assert bench.pulls.is_free({"image": "r.io/app:1", "imagePullPolicy": "IfNotPresent"})
    assert await bench.start("1", policy="Never") == HERE


async def test_a_back_off_does_not_count_by_the_clock_on_the_wall(bench: Bench) -> None:
    """A clock that is set back by hours would hold the image back by as much."""
    bench.images.remote["r.io/app:1"] = RegistryFailure("away")
    clock = FakeClock()
    bench.pulls = Pulls(bench.images, clock, Accesses(bench.folder))
    assert await bench.start("1") == "ErrImagePull: away"
    assert (await bench.start("1")).startswith("ImagePullBackOff: ")
    clock._now -= 3600
    clock._base -= 3600 + CRASH_INITIAL_S + 1
    bench.images.remote["r.io/app:1"] = BUSYBOX
    assert await bench.start("1") == PULLED


async def test_what_another_node_of_the_machine_pulled_with_a_secret_is_not_everybodys(
    tmp_path: Path,
) -> None:
    """All nodes of a machine have one store: an image comes to the others as if from nowhere."""
    one, other = Bench(tmp_path / "1"), Bench(tmp_path / "2")
    other.images = one.images
    other.pulls = Pulls(
        one.images, FakeClock(), Accesses(tmp_path / "2", beside=lambda: [tmp_path / "1"])
    )
    one.images.remote["r.io/app:1"] = structs.replace(
        BUSYBOX, id="sha256:app", tags=("r.io/app:1",)
    )
    known = secret(**{"r.io": auth("a")})
    assert await one.start("1", known) == PULLED
    assert await other.start("2", known) == HERE
    pulled: list[Credentials | None] = []

    async def pull(reference: str, credentials: Credentials | None = None) -> Any:
        pulled.append(credentials)
        raise RegistryFailure("no")

    one.images.pull = pull  # type: ignore[method-assign]
    assert await other.start("3") == "ErrImagePull: no"
    assert pulled == [None]
    # Nor is what is about to come so.
    image = one.images.find("r.io/app:1")
    assert image is not None
    one.pulls._accesses.forget(image.id)
    assert other.pulls.is_free({"image": "r.io/app:1"})
    one.pulls._accesses.begin("r.io/app:1", None)
    assert not other.pulls.is_free({"image": "r.io/app:1"})
