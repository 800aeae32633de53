"""When the node is short of something: thresholds, conditions, grace, and what is reclaimed."""

from __future__ import annotations

import pytest

from sampan.node.settings import Settings, parse_settings
from sampan.node.thresholds import (
    DEFAULTS,
    MEMORY,
    NODE_DISK,
    PIDS,
    Observation,
    Threshold,
    Watcher,
    crossing_text,
    thresholds_of,
)

MIB = 1 << 20


def memory(mib: int) -> dict[str, Observation]:
    return {MEMORY: Observation(mib * MIB, 1000 * MIB)}


def test_a_hard_threshold_counts_at_once_and_its_condition_stays_for_a_while() -> None:
    watcher = Watcher(thresholds_of({MEMORY: "100Mi"}, {}, {}, {}), 300)
    assert watcher.observe(memory(101), 0) == ()
    assert watcher.conditions == ()
    (met,) = watcher.observe(memory(99), 10)
    assert met.signal == MEMORY
    assert watcher.conditions == ("MemoryPressure",)
    assert watcher.observe(memory(500), 20) == ()
    assert watcher.conditions == ("MemoryPressure",)
    watcher.observe(memory(500), 309)
    assert watcher.conditions == ("MemoryPressure",)
    watcher.observe(memory(500), 311)
    assert watcher.conditions == ()


def test_a_soft_threshold_waits_for_its_grace() -> None:
    watcher = Watcher(thresholds_of({}, {MEMORY: "30%"}, {MEMORY: 60.0}, {}), 0)
    assert watcher.observe(memory(200), 0) == ()
    assert watcher.conditions == ("MemoryPressure",)
    assert watcher.observe(memory(200), 59) == ()
    assert [item.grace_s for item in watcher.observe(memory(200), 60)] == [60.0]
    # Once fine, its time counts anew.
    assert watcher.observe(memory(301), 61) == ()
    assert watcher.observe(memory(200), 70) == ()


def test_crossed_is_over_only_when_the_minimum_is_reclaimed() -> None:
    watcher = Watcher(thresholds_of({MEMORY: "100Mi"}, {}, {}, {MEMORY: "50Mi"}), 0)
    assert watcher.observe(memory(120), 0) == ()
    assert watcher.observe(memory(90), 1)
    assert watcher.observe(memory(149), 2)
    assert watcher.observe(memory(150), 3) == ()


def test_memory_comes_first() -> None:
    found = thresholds_of({NODE_DISK: "50%", PIDS: "10", MEMORY: "1Gi"}, {}, {}, {})
    watcher = Watcher(found, 0)
    seen = {NODE_DISK: Observation(1, 10), PIDS: Observation(1, 100), **memory(1)}
    assert watcher.observe(seen, 0)[0].signal == MEMORY
    assert watcher.conditions == ("MemoryPressure", "DiskPressure", "PIDPressure")


def test_the_text_says_how_short() -> None:
    text = crossing_text(Threshold(MEMORY, "100Mi"), Observation(1023 * 1024, 1 << 40))
    assert text == "Threshold quantity: 100Mi, available: 1023Ki. "
    text = crossing_text(Threshold(PIDS, "1k"), Observation(12, 32768))
    assert text == "Threshold quantity: 1k, available: 12. "


def test_a_configuration_is_upstreams() -> None:
    document = {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "maxPods": 7,
        "podPidsLimit": -1,
        "evictionHard": {"memory.available": "200Mi"},
        "evictionSoft": {"nodefs.available": "20%"},
        "evictionSoftGracePeriod": {"nodefs.available": "1m30s"},
        "evictionPressureTransitionPeriod": "10s",
        "systemReserved": {"cpu": "100m", "memory": "1Gi"},
        "kubeReserved": {"memory": "1Gi"},
        "allowedUnsafeSysctls": ["kernel.msg*", "net/core/somaxconn"],
        "containerLogMaxSize": "1Mi",
        "cgroupDriver": "systemd",
    }
    made = parse_settings(document)
    assert (made.max_pods, made.pod_pids, made.transition_s) == (7, 0, 10.0)
    assert [(item.signal, item.grace_s) for item in made.thresholds] == [
        ("memory.available", 0),
        ("nodefs.available", 90),
        ("allocatableMemory.available", 0),
    ]
    assert made.reserved("memory") == 2 << 30
    assert made.unsafe_sysctls == ("kernel.msg*", "net.core.somaxconn")
    assert Settings().thresholds == DEFAULTS


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"evictionHard": {"memory.free": "1"}}, "unsupported eviction signal memory.free"),
        ({"evictionSoft": {MEMORY: "1"}}, "grace period must be specified for the soft"),
        ({"crashLoopBackOff": {"maxContainerRestartPeriod": "301s"}}, "between 1s and 300s"),
        ({"crashLoopBackOff": {"most": "3s"}}, "must be a mapping with maxContainerRestartPeriod"),
        ({"maxPods": "many"}, "maxPods: must be a number"),
        ({"systemReserved": {"gpu": 1}}, "systemReserved: cannot reserve 'gpu' resource"),
        ({"allowedUnsafeSysctls": ["vm.swappiness"]}, "are not known to be namespaced"),
        ({"cpuManagerPolicy": "static"}, "the static policy requires systemreserved.cpu"),
        ({"evictionPressureTransitionPeriod": "soon"}, 'time: invalid duration "soon"'),
        ({"kind": "Pod"}, "not a KubeletConfiguration"),
    ],
)
def test_a_wrong_configuration_says_which_field(change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text.replace("+", ".")):
        parse_settings({"kind": "KubeletConfiguration", **change})
