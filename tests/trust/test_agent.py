"""The node agent is killed again and again, and pods do their worst: the others stay well.

Row 8 of the table: kill -9 of the agent with many pods; no container changes, none is left over,
and a new pod runs soon after. And what a pod may do to its node: fork without end, fill the disk
and the memory, flood its log, die at once, never end. `make trust` runs it with `PODS_WHOLE` pods.
"""

from __future__ import annotations

import calendar
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.cli import User
from tests.kit.images import busybox_archive
from tests.kit.machine import NOTHING, traces
from tests.kit.ports import free_port
from tests.kit.trust import SLICE, size

pytestmark = pytest.mark.root

PODS_WHOLE, PODS_CI = 100, 4
PODS = PODS_WHOLE if "SAMPAN_TRUST_SIZE" in os.environ else PODS_CI
NEW_POD_S = 5.0
PATIENCE_S = 60.0
PIDS = 200
LOG_MIB = 1024 if "SAMPAN_TRUST_SIZE" in os.environ else 32
KUBELET = f"""
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: {PODS_WHOLE + 40}
podPidsLimit: {PIDS}
containerLogMaxSize: 1Mi
containerLogMaxFiles: 3
"""
Obj = dict[str, Any]


def pod(name: str, script: str, policy: str = "Never", **container: Any) -> Obj:
    only = {"name": "c", "image": "busybox:test", "command": ["sh", "-c", script], **container}
    spec = {
        "restartPolicy": policy, "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False, "containers": [only],
    }  # fmt: skip
    meta = {"name": name, "labels": {"kind": name.partition("-")[0]}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


FAULTS = (
    pod("bad-deaf", "trap '' TERM; while true; do sleep 1; done"),
    pod("bad-forks", "f() { sleep 1000 & f; }; (f); exec sleep 1000"),
    pod("bad-disk", "dd if=/dev/zero of=/file bs=1M count=64; sleep 1000",
        resources={"limits": {"ephemeral-storage": "16Mi"}}),
    pod("bad-memory", "x=x; while true; do x=$x$x; done",
        resources={"limits": {"memory": "32Mi"}}),
    pod("bad-log", f"dd if=/dev/zero bs=1M count={LOG_MIB}"),
    pod("bad-exit", "exit 3", "Always"),
    pod("bad-streams", "exec <&- >&- 2>&-; sleep 1000"),
    pod("bad-probe", "sleep 1000", livenessProbe={
        "exec": {"command": ["sleep", "1000"]}, "periodSeconds": 1, "failureThreshold": 100}),
    pod("bad-mounts", "for f in /etc/hosts /etc/hostname /etc/resolv.conf /dev/termination-log; do "
        "dd if=/dev/zero of=$f bs=1M count=8; rm -f $f; ln -sf /proc/self/fd/1 $f; done; "
        "mount -t tmpfs none /etc; umount /dev/termination-log; sleep 1000"),
)  # fmt: skip


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    folder = tmp_path_factory.mktemp("agent")
    (folder / "home").mkdir()
    (folder / "data/config").mkdir(parents=True)
    (folder / "data/config/kubelet.yaml").write_text(KUBELET)
    user = User("trust-agent", folder / "data", folder / "home")
    archive = busybox_archive(folder / "busybox.tar", "docker.io/library/busybox:test")
    try:
        user.sampan("up", "--listen", f"127.0.0.1:{free_port()}").ok
        user.sampan("image", "load", str(archive)).ok
        stay = (pod(f"stay-{number}", "sleep 100000") for number in range(PODS))
        apply(user, *stay, *FAULTS)
        until(lambda: len(running(user)) == PODS)
        yield user
    finally:
        user.sampan("down", "--purge").ok
    assert traces(user.name, user.data) == NOTHING


def apply(user: User, *pods: Obj) -> None:
    body = {"apiVersion": "v1", "kind": "List", "items": [*pods]}
    user.kubectl("create", "-f", "-", text=json.dumps(body)).ok


def until(true: Callable[[], Any], patience_s: float = PATIENCE_S) -> float:
    """How long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < patience_s
        time.sleep(0.05)
    return time.monotonic() - began


def running(user: User) -> dict[str, str]:
    """Container ids of the pods that stay, by name, of those that have never been restarted."""
    found = {}
    for item in user.get("pods", "-lkind=stay")["items"]:
        for status in item["status"].get("containerStatuses") or ():
            if "running" in status["state"] and not status["restartCount"]:
                found[item["metadata"]["name"]] = status["containerID"].removeprefix("crun://")
    return found


def known(user: User) -> set[str]:
    """Ids of all containers the API knows of."""
    return {
        status["containerID"].removeprefix("crun://")
        for item in user.get("pods")["items"]
        for status in item["status"].get("containerStatuses") or ()
        if status.get("containerID")
    }


def agent_pid(user: User) -> int:
    status = json.loads(user.sampan("status", "--json").ok)
    return int(status["parts"]["node"]["pid"] or 0)


def monitors(user: User) -> dict[str, int]:
    """conmon processes by container."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"conmon") and str(user.data).encode() in b"\0".join(words):
            found[words[words.index(b"--cid") + 1].decode()] = int(path.parts[2])
    return found


def test_a_killed_agent_costs_no_container(user: User) -> None:
    dice = random.Random(SLICE)
    before = running(user)
    for number in range(size(1)):
        name = f"new-{number}"
        # In the middle of making a pod, more often than not.
        made = dice.random() < 0.7
        if made:
            apply(user, pod(f"torn-{number}", "sleep 100000"))
            time.sleep(dice.random() * 0.08)
        pid = agent_pid(user)
        apply(user, pod(name, "sleep 100000"))
        os.kill(pid, signal.SIGKILL)
        killed_at = int(time.time())
        until(lambda: phase(user, name) == "Running")  # noqa: B023
        assert started_at(user, name) - killed_at <= NEW_POD_S
        assert agent_pid(user) != pid
        assert running(user) == before
        gone = [name, *([f"torn-{number}"] if made else [])]
        if made:
            until(lambda: phase(user, f"torn-{number}") == "Running")  # noqa: B023
            assert restarts(user, f"torn-{number}") == 0
        user.kubectl("delete", "pod", *gone).ok
        until(lambda: monitors(user).keys() <= known(user))
        assert monitors(user).keys() >= set(before.values())


def phase(user: User, name: str) -> str:
    return str(user.get("pod", name)["status"].get("phase"))


def restarts(user: User, name: str) -> int:
    return int(user.get("pod", name)["status"]["containerStatuses"][0]["restartCount"])


def test_what_pods_do_at_their_worst(user: User) -> None:
    before = running(user)
    until(lambda: all(phase(user, it["metadata"]["name"]) != "Pending" for it in FAULTS))
    apply(user, pod("new-beside", "true"))
    until(lambda: phase(user, "new-beside") == "Succeeded")
    until(lambda: ended(user, "bad-memory") == "OOMKilled")
    until(lambda: user.get("pod", "bad-disk")["status"].get("reason") == "Evicted")
    until(lambda: restarts(user, "bad-exit") >= 2)
    # The flood is over, and what is left of it is no more than logs may have.
    until(lambda: "running" not in state(user, "bad-log"))
    until(lambda: log_bytes(user, "bad-log") < 4 << 20)
    for name in ("bad-forks", "bad-streams", "bad-probe", "bad-deaf", "bad-mounts"):
        assert "running" in state(user, name), name
    groups = [*Path("/sys/fs/cgroup").glob(f"pids/sampan-{user.name}/kubepods/*/*/pids.current")]
    groups += [*Path("/sys/fs/cgroup").glob(f"sampan-{user.name}/kubepods/*/*/pids.current")]
    assert max(int(path.read_text()) for path in groups) <= PIDS
    assert running(user) == before
    user.kubectl("delete", "pod", "-lkind=bad").ok
    assert user.get("pods", "-lkind=bad")["items"] == []
    until(lambda: monitors(user).keys() >= set(before.values()))
    ready = user.get("nodes")["items"][0]["status"]["conditions"]
    assert {item["type"]: item["status"] for item in ready} == {
        "Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False",
    }  # fmt: skip


def state(user: User, name: str) -> Obj:
    found: Obj = user.get("pod", name)["status"]["containerStatuses"][0]["state"]
    return found


def started_at(user: User, name: str) -> float:
    text = state(user, name)["running"]["startedAt"]
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def log_bytes(user: User, name: str) -> int:
    files = (user.data / "node/logs").glob(f"default_{name}_*/c/*")
    return sum(path.stat().st_size for path in files)


def ended(user: User, name: str) -> str:
    return str((state(user, name).get("terminated") or {}).get("reason"))


def test_a_lost_monitor_is_noticed(user: User) -> None:
    """The control: what the test above looks at does change when a container is really lost."""
    before = running(user)
    name = f"stay-{PODS - 1}"
    os.kill(monitors(user)[before[name]], signal.SIGKILL)
    until(lambda: name not in running(user))
    until(lambda: phase(user, name) == "Failed")
    assert running(user).items() == before.items() - {(name, before[name])}
