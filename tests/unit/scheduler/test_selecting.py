"""Selectors of devices, which users write and everybody would wait for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sampan.scheduler.allocation import Device, Impossible, Pools
from sampan.scheduler.selecting import UNKNOWN, Selecting

DRIVER = "gpu.example.com"
QUICK = [f'device.driver == "{DRIVER}"']
LONG = [f"{list(range(60))}.all(x, {list(range(20))}.exists_one(y, y == 19))"]
"""Harmless for one device; some hundreds of them are asked."""


def devices(count: int) -> list[Device]:
    spec = {
        "driver": DRIVER,
        "pool": {"name": "pool", "generation": 1, "resourceSliceCount": 1},
        "nodeName": "n1",
        "devices": [{"name": f"g{number}"} for number in range(count)],
    }
    return list(Pools([{"metadata": {"name": "s"}, "spec": spec}]).devices)


class Called:
    def __init__(self) -> None:
        self.event = asyncio.Event()

    def __call__(self) -> None:
        self.event.set()


async def test_what_takes_long_is_waited_for_elsewhere() -> None:
    changed = Called()
    selecting, found = Selecting(changed), devices(400)
    assert selecting.of("r", QUICK, found) == found
    for _ in range(2):
        with pytest.raises(Impossible, match=UNKNOWN):
            selecting.of("r", LONG, found)
    assert not changed.event.is_set()
    await asyncio.wait_for(changed.event.wait(), 20)
    assert selecting.of("r", LONG, found) == found


async def test_devices_that_changed_meanwhile_are_asked_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = Called()
    selecting, old = Selecting(changed), devices(400)
    with pytest.raises(Impossible, match=UNKNOWN):
        selecting.of("r", LONG, old)
    await asyncio.sleep(0)
    selecting.clear()
    new = devices(1)
    assert selecting.of("r", LONG, new) == new
    pending: Any = [task for task in asyncio.all_tasks() if task.get_name() == "device selectors"]
    await asyncio.gather(*pending, return_exceptions=True)
    assert not changed.event.is_set()
    assert selecting.of("r", LONG, new) == new


def test_what_one_device_cannot_be_asked_nobody_is() -> None:
    selecting, found = Selecting(Called()), devices(1)
    for name in ("a", "b"):
        text = f"request {name}: device {DRIVER}/pool/g0: CEL runtime error: "
        with pytest.raises(Impossible, match=text):
            selecting.of(name, [f'device.attributes["{DRIVER}"].absent == 1'], found)
    with pytest.raises(Impossible, match="request a: selector does not compile: "):
        selecting.of("a", ["device.none"], found)
