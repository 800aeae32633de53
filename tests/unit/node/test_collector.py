"""Which images go, when, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sampan.node.collector import PERIOD_S, Collector, size_text, used_beside, wanted_images
from sampan.node.config import NodeConfig
from sampan.node.facts import Disk
from sampan.node.settings import Settings, parse_settings
from sampan.runtime.interface import Image, ImageNotFound
from sampan.runtime.records import Record, write_record
from tests.kit.clock import FakeClock, settle
from tests.kit.runtime import FakeImages


class Bench:
    """A disk of 1000 bytes with images of 100 each; what goes makes room."""

    def __init__(self, **settings: Any) -> None:
        self.images = FakeImages()
        self.images.here.clear()
        self.clock = FakeClock()
        self.used: set[str] = set()
        self.other = 0
        self.said: list[tuple[str, str]] = []
        self.gone: list[str] = []
        self.collector = Collector(
            self.images,
            self.clock,
            replace(Settings(), **settings),
            used=lambda: self.used,
            disk=self.disk,
            tell=lambda reason, text: self.said.append((reason, text)),
            gone=self.gone.append,
        )
        self.images.remove = self.remove  # type: ignore[method-assign]

    def disk(self) -> Disk:
        return Disk(1000, 1000 - self.other - 100 * len(self.images.here))

    async def remove(self, reference: str) -> None:
        if reference not in self.images.here:
            raise ImageNotFound(reference)
        del self.images.here[reference]

    def add(self, *names: str, pinned: bool = False) -> None:
        for name in names:
            image = Image(name, (), (), 100, pinned=pinned, added_at=self.clock.now())
            self.images.here[name] = image

    async def after(self, seconds: float) -> None:
        """What a minute and what a round do, for a while."""
        await self.clock.advance(seconds)
        await settle()


async def running(bench: Bench) -> Any:
    import asyncio

    task = asyncio.ensure_future(bench.collector.run())
    await settle()
    return task


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_full_disk_loses_what_was_used_longest_ago(bench: Bench) -> None:
    bench.add("a", "b", "c", "d", "e", "f", "g")
    bench.used = set("abcdefg")
    task = await running(bench)
    bench.used = {"a", "c"}
    await bench.after(PERIOD_S)
    assert not bench.gone, "70 % is not full"
    bench.add("loaded", pinned=True)
    bench.add("h")
    await bench.after(PERIOD_S)
    assert bench.gone == ["h"], "90 % is, 80 % is enough, and nobody ever used h"
    assert not bench.said
    bench.used = set()
    bench.other = 500
    await bench.after(PERIOD_S)
    assert set(bench.images.here) == {"a", "c", "loaded"}, "they were used last"
    bench.add("young")
    bench.other = 900
    await bench.collector.delete_unused()
    assert set(bench.images.here) == {"loaded", "young"}, "younger than two minutes"
    task.cancel()


async def test_nothing_in_use_goes_and_the_node_says_so(bench: Bench) -> None:
    bench.add(*"abcdefgh")
    bench.used = set("abcdefgh")
    task = await running(bench)
    bench.other = 150
    await bench.after(PERIOD_S)
    text = (
        "Insufficient free disk space on the node's image filesystem (95% of 1000 B used). Failed "
        "to free sufficient space by deleting unused images (freed 0 bytes). Investigate disk "
        "usage, as it could be used by active images, logs, volumes, or other data."
    )
    assert bench.said == [("FreeDiskSpaceFailed", text)]
    await bench.after(PERIOD_S)
    assert bench.said[1:] == [("FreeDiskSpaceFailed", text), ("ImageGCFailed", text)]
    assert len(bench.images.here) == 8
    task.cancel()


async def test_images_may_be_too_old(bench: Bench) -> None:
    bench = Bench(image_maximum_age_s=1000.0)
    bench.add("never", "once", "always")
    bench.used = {"once", "always"}
    task = await running(bench)
    await bench.after(PERIOD_S * 3)
    bench.used = {"always"}
    assert not bench.gone, "what was before the agent's start is not known"
    await bench.after(PERIOD_S)
    assert bench.gone == ["never"]
    await bench.after(PERIOD_S * 4)
    assert bench.gone == ["never", "once"]
    assert bench.collector.removed == {"age": 2}
    task.cancel()


async def test_who_is_short_of_disk_has_all_that_is_unused(bench: Bench) -> None:
    bench.add("a", "b", "kept")
    bench.used = {"kept"}
    task = await running(bench)
    await bench.after(200)
    bench.add("young")
    await bench.collector.delete_unused()
    assert set(bench.images.here) == {"kept", "young"}
    task.cancel()


def test_sizes_read_as_kubelets() -> None:
    assert size_text(28_346_781_696) == "26.4 GiB"
    assert size_text(512) == "512 B"


def test_what_a_pod_wants() -> None:
    spec = {
        "initContainers": [{"image": "i"}],
        "containers": [{"image": "c"}],
        "ephemeralContainers": [{"image": "e"}],
        "volumes": [{"name": "v", "image": {"reference": "v"}}, {"name": "w", "emptyDir": {}}],
    }
    assert list(wanted_images({"spec": spec})) == ["i", "c", "e", "v"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"imageGCHighThresholdPercent": 101}, "between 0 and 100"),
        ({"imageGCHighThresholdPercent": 70}, "must be less than"),
        ({"imageMaximumGCAge": "1m"}, "greater than imageMinimumGCAge"),
    ],
)
def test_settings_that_contradict(fields: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_settings({"kind": "KubeletConfiguration", **fields})


def test_what_other_nodes_of_the_machine_use_is_in_use(tmp_path: Path) -> None:
    """They have one store: an image that goes takes its layers from under their containers."""
    for node, image in (("node", "sha256:a"), ("nodes/2/node", "sha256:b")):
        folder = tmp_path / node / "containers" / "c"
        folder.mkdir(parents=True)
        write_record(folder / "record.json", Record("c", image, "g", "boot", 1.0))
    for own, others in (("nodes/2/node", "sha256:a"), ("node", "sha256:b")):
        data, no = tmp_path / own, Path()
        config = NodeConfig("n", data, no, "", "", "", no, no, no, shared=tmp_path)
        assert list(used_beside(config.beside())) == [others]
