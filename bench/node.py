"""What the node agent takes: `python -m bench.node`.

200 pods on one node; memory and processor time of the agent for each pod that only sits there; and
bare crun, without image, network and API, as the limit of what any agent can do.
"""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .cluster import TICKS, Cluster, boot, load_web

IMAGE = "bench-node:1.0"
SEQUENCE, MANY, IDLE_S = 20, 200, 30
PATIENCE_S = 300.0
KUBELET = {
    "kind": "KubeletConfiguration",
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "maxPods": MANY + 20,
}
PODS = "/api/v1/namespaces/default/pods"
Obj = dict[str, Any]


class Api:
    """Plain requests, and a watch: the least a client can cost."""

    def __init__(self, cluster: Cluster) -> None:
        parts = urlsplit(cluster.url)
        context = ssl.create_default_context(cafile=str(cluster.data / "pki/ca.crt"))
        self._connect: Callable[[], http.client.HTTPSConnection] = lambda: (
            http.client.HTTPSConnection(
                parts.hostname or "", parts.port, context=context, timeout=PATIENCE_S
            )
        )
        self._headers = {
            "Authorization": f"Bearer {cluster.token}",
            "Content-Type": "application/json",
        }
        self._plain = self._connect()

    def ask(self, method: str, path: str, body: Obj | None = None) -> Any:
        data = None if body is None else json.dumps(body)
        self._plain.request(method, path, data, self._headers)
        answer = self._plain.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)

    def watch(self, path: str) -> Iterator[Obj]:
        connection = self._connect()
        connection.request("GET", f"{path}?watch=true", headers=self._headers)
        for line in connection.getresponse():
            yield json.loads(line)["object"]


def pod(name: str) -> Obj:
    spec = {"containers": [{"name": "c", "image": IMAGE}], "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": name, "labels": {"of": "bench"}}, "spec": spec}


def is_ready(found: Obj) -> bool:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def agent(cluster: Cluster) -> tuple[float, float]:
    """(resident bytes, processor seconds) of the node's process."""
    pid = cluster.status()["parts"]["node"]["pid"]
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return pages * 4096.0, (int(fields[11]) + int(fields[12])) / TICKS


def spent(cluster: Cluster) -> float:
    before = agent(cluster)[1]
    time.sleep(IDLE_S)
    return (agent(cluster)[1] - before) / IDLE_S


def many(api: Api, cluster: Cluster) -> dict[str, float]:
    """Memory and time of the agent with `MANY` pods against none."""
    empty_bytes, empty_share = agent(cluster)[0], spent(cluster)
    watch = api.watch(PODS)
    began = time.perf_counter()
    for number in range(MANY):
        api.ask("POST", PODS, pod(f"many-{number}"))
    ready: set[str] = set()
    while len(ready) < MANY:
        found = next(watch)
        if is_ready(found) and found["metadata"]["name"].startswith("many-"):
            ready.add(found["metadata"]["name"])
    seconds = time.perf_counter() - began
    time.sleep(IDLE_S)
    full_bytes, full_share = agent(cluster)[0], spent(cluster)
    api.ask("DELETE", f"{PODS}?labelSelector=of%3Dbench")
    return {
        "many pods": round(seconds, 1),
        "idle pod": round((full_bytes - empty_bytes) / MANY / 1e6, 3),
        "idle pod cpu": round(100 * max(0.0, full_share - empty_share) / MANY, 4),
    }


CRUN = """
umount /sys/fs/cgroup/unified 2>/dev/null
for n in $(seq {count}); do
  a=$(date +%s%N); crun --root={root} run --detach --bundle={bundle} bench-$n < /dev/null
  b=$(date +%s%N); echo $(( (b - a) / 1000 )); crun --root={root} delete --force bench-$n
done
"""


def bare_crun() -> float:
    """Median milliseconds of `crun run --detach` of the same root."""
    folder = Path(tempfile.mkdtemp(prefix="sampan-bench-crun-"))
    try:
        root = folder / "bundle/rootfs"
        for name in ("bin", "proc", "sys", "dev"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/sh")
        subprocess.run(["crun", "spec"], cwd=folder / "bundle", check=True)
        path = folder / "bundle/config.json"
        config = json.loads(path.read_text())
        config["process"] |= {"args": ["/bin/sh", "-c", "read x < /proc/1/stat; sleep 100"]}
        config["process"]["terminal"] = False
        path.write_text(json.dumps(config))
        script = CRUN.format(count=SEQUENCE, root=folder / "crun", bundle=folder / "bundle")
        run = subprocess.run(
            ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True
        )
        return round(statistics.median(map(int, run.stdout.split())) / 1000, 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run() -> dict[str, float]:
    cluster = boot({"kubelet.yaml": json.dumps(KUBELET)})
    try:
        load_web(cluster, IMAGE)
        values = many(Api(cluster), cluster)
    finally:
        cluster.down()
    return values | {"bare crun": bare_crun()}


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
