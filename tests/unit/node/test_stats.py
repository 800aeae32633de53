"""Usage: rates between readings, one reading for many questions, the forms clients read."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from sampan.linux.blockio import Transfers
from sampan.linux.cgroups import Processor, Usage
from sampan.node import stats
from sampan.node.cadvisor import cadvisor_text
from sampan.node.facts import Disk
from sampan.node.stats import (
    ContainerUsage,
    Measured,
    PodUsage,
    Reading,
    Stats,
    node_usage,
    rates,
)
from sampan.node.summary import resource_text, summary
from tests.kit.clock import FakeClock

MEBI = 1 << 20


def reading(at: float, cpu_ns: int) -> Reading:
    usage = Usage(cpu_ns=cpu_ns, memory_bytes=4 * MEBI, working_set_bytes=3 * MEBI)
    container = ContainerUsage("c", "id", "busybox", 5.0, usage)
    traffic = stats.Traffic(received_bytes=7, sent_bytes=9)
    pod = PodUsage("u", "p", "ns", 4.0, usage, (container,), traffic, "kubepods/podu")
    node = Usage(cpu_ns=10 * cpu_ns, working_set_bytes=100 * MEBI, memory_limit_bytes=400 * MEBI)
    return Reading(at, node, 300 * MEBI, Disk(100, 40, 10, 4), (pod,))


def test_rates_are_between_two_readings() -> None:
    got = rates(reading(10, 1_000_000_000), reading(20, 3_000_000_000))
    assert got == {"": 2_000_000_000, "u": 200_000_000, "id": 200_000_000}
    # A counter that began anew is no negative rate; without time there is no rate.
    assert rates(reading(10, 5), reading(20, 1)) == {"": 0, "u": 0, "id": 0}
    assert rates(reading(10, 5), reading(10, 9)) == {}


class Kernel:
    """Counts how often it is read."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.count = 0

    def read(self) -> Reading:
        self.count += 1
        return reading(self.clock.now(), self.count * 1_000_000_000)


async def test_nothing_is_read_twice_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    kernel = Kernel(clock)

    async def here(read: object) -> Reading:
        return kernel.read()

    monkeypatch.setattr("sampan.node.stats.asyncio.to_thread", here)
    made = Stats(clock, kernel.read)
    asked = [asyncio.create_task(made.measure()) for _ in range(5)]
    for _ in range(5):
        await asyncio.sleep(0)
    # The first question waits for a second reading; all five share it.
    assert kernel.count == 1
    await clock.advance(stats.PAUSE_S)
    answers = await asyncio.gather(*asked)
    assert kernel.count == 2
    assert {id(answer) for answer in answers} == {id(answers[0])}
    assert answers[0].nano_cores["id"] == 1_000_000_000
    assert answers[0].window_s == stats.PAUSE_S
    # It serves for a while; later the reading before gives the rate at once.
    await clock.advance(stats.FRESH_S - 0.1)
    assert await made.measure() is answers[0]
    await clock.advance(10)
    later = await made.measure()
    assert kernel.count == 3
    assert later.window_s == pytest.approx(10 + stats.FRESH_S - 0.1)


def test_a_summary_reads_as_kubelets() -> None:
    measured = Measured(reading(100, 5), {"": 7, "u": 3, "id": 2}, 10.0)
    made = summary(measured, "n")
    node = made["node"]
    assert node["nodeName"] == "n"
    assert node["cpu"] == {
        "time": "1970-01-01T00:01:40Z", "usageCoreNanoSeconds": 50, "usageNanoCores": 7,
    }  # fmt: skip
    assert node["memory"]["availableBytes"] == 300 * MEBI
    assert node["fs"]["usedBytes"] == 60
    [pod] = made["pods"]
    assert pod["podRef"] == {"name": "p", "namespace": "ns", "uid": "u"}
    assert pod["containers"][0]["memory"]["workingSetBytes"] == 3 * MEBI
    assert "availableBytes" not in pod["containers"][0]["memory"]
    short = summary(measured, "n", short=True)
    assert "fs" not in short["node"]
    # What has only been seen once has no rate.
    young = summary(Measured(reading(100, 5)), "n")
    assert "usageNanoCores" not in young["pods"][0]["cpu"]


def test_prometheus_texts() -> None:
    text = resource_text(reading(100, 1_500_000_000))
    labels = 'container="c",namespace="ns",pod="p"'
    assert f"container_cpu_usage_seconds_total{{{labels}}} 1.5 100000\n" in text
    assert "node_cpu_usage_seconds_total 15 100000\n" in text
    assert 'pod_memory_working_set_bytes{namespace="ns",pod="p"} 3145728.0 100000\n' in text
    assert text.endswith("resource_scrape_error 0\n")
    moved = {"id": Transfers({("/dev/vda", "Read"): 4096}, {("/dev/vda", "Read"): 3})}
    text = cadvisor_text(reading(100, 0), 4, moved=moved)
    place = 'device="/dev/vda",id="/kubepods/podu/id",image="busybox",name="id"'
    for name, value in (("reads_bytes", 4096), ("reads", 3)):
        row = f'container_fs_{name}_total{{container="c",{place},namespace="ns",pod="p"}} {value} '
        assert row in text
    place = 'id="/kubepods/podu/id",image="busybox",name="id"'
    assert f'container_memory_rss{{container="c",{place},namespace="ns",pod="p"}} 0 ' in text
    root = 'id="/",image="",name="",namespace="",pod=""'
    assert f'container_cpu_usage_seconds_total{{container="",cpu="total",{root}}} 0' in text
    assert f'container_memory_working_set_bytes{{container="",{root}}} {100 * MEBI}' in text
    place = 'id="/kubepods/podu",image="",interface="eth0",name=""'
    row = f'container_network_receive_bytes_total{{container="",{place},namespace="ns",pod="p"}} 7'
    assert row in text
    assert "machine_cpu_cores 4 100000\n" in text
    # What has no quota is never throttled, and has no such rows.
    assert "# TYPE container_cpu_cfs_throttled_periods_total counter" in text
    assert "container_cpu_cfs_throttled_periods_total{" not in text
    cpu = Processor(user_ns=1_500_000_000, quota_us=25_000, throttled_periods=3, shares=102)
    seen = reading(100, 0)
    pod = replace(seen.pods[0], usage=Usage(processor=cpu, oom_kills=2))
    text = cadvisor_text(replace(seen, pods=(pod,)), 4)
    of_pod = '{container="",id="/kubepods/podu",image="",name="",namespace="ns",pod="p"}'
    for name, figure in (
        ("cpu_user_seconds_total", 1.5), ("spec_cpu_quota", 25_000), ("spec_cpu_shares", 102),
        ("cpu_cfs_throttled_periods_total", 3), ("oom_events_total", 2),
    ):  # fmt: skip
        assert f"container_{name}{of_pod} {figure} " in text


def test_a_node_is_read_from_proc() -> None:
    stat = "cpu  100 0 50 800 7 1 2 3 9 0\ncpu0 1 2 3\n"
    meminfo = "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 200 kB\nAnonPages: 50 kB\n"
    usage, available = node_usage(stat, meminfo)
    assert usage.cpu_ns == 156 * 1_000_000_000 // stats.TICKS
    assert usage.working_set_bytes == 500 * 1024
    assert available == 500 * 1024
