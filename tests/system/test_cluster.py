"""The whole path: one command to a cluster, kubectl to real containers, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from examples.guestbook import build
from tests.kit.cli import RUNTIME, User
from tests.kit.machine import NOTHING, traces
from tests.kit.ports import free_port

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
GUESTBOOK = ROOT / "examples/guestbook/guestbook.yaml"
ENTRIES = "http://127.0.0.1:30080/cgi-bin/entries"
PATIENCE_S = 10.0
IDENTITY = ("pki/ca.crt", "pki/server.crt", "admin.kubeconfig", "admin.token", "cluster.json")


def new_user(folder: Path, name: str) -> User:
    home = folder / "home"
    home.mkdir(parents=True)
    return User(name, folder / "data", home)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A running cluster with the guestbook's images; purged afterwards, and checked for traces."""
    user = new_user(tmp_path_factory.mktemp("cluster"), "e2e")
    try:
        user.sampan("up", "--listen", f"127.0.0.1:{free_port()}").ok
        build.main(user.home)
        for image in ("frontend", "backend"):
            user.sampan("image", "load", str(user.home / f"guestbook-{image}.tar")).ok
        yield user
    finally:
        user.sampan("down", "--purge").ok
    assert traces(user.name, user.data) == NOTHING
    assert not user.data.exists()


def fetch(body: bytes | None = None) -> str:
    """Ask the guestbook. A Deployment is available a moment before the kernel has its endpoints,
    here as upstream, so a refused connection is tried again, for at most `PATIENCE_S`."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(ENTRIES, data=body, timeout=10) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.URLError as error:
            refused = isinstance(error.reason, ConnectionRefusedError)
            if not refused or time.monotonic() > end:
                raise


def test_up_is_idempotent_and_writes_what_clients_need(user: User) -> None:
    again = json.loads(user.sampan("up", "--json").ok)
    assert again["running"] is True
    config = (user.home / ".kube/config").read_text() if (user.home / ".kube").exists() else ""
    # The test's KUBECONFIG is the cluster's own file: the context is merged into that.
    assert "sampan-e2e" in config + user.run("kubectl", "config", "get-contexts").ok
    for secret in ("admin.kubeconfig", "admin.token", "pki/ca.key", "pki/sa.key", "state.db"):
        assert (user.data / secret).stat().st_mode & 0o077 == 0, secret
    status = json.loads(user.sampan("status", "--json").ok)
    assert [node["ready"] for node in status["nodes"]] == [True]
    assert status["memory_bytes"] > 0
    nodes = user.get("nodes")["items"]
    assert nodes[0]["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.36")


def test_the_guestbook_from_apply_to_an_answer(user: User) -> None:
    user.kubectl("apply", "-f", str(GUESTBOOK)).ok
    for name in ("redis", "frontend"):
        user.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s").ok
    assert fetch(b"first").split() == ["first"]
    assert fetch().split() == ["first"]
    table = user.kubectl("get", "pods", "-o", "wide").ok.splitlines()
    assert table[0].split()[:6] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"]
    assert sum("1/1     Running" in line for line in table) == 4
    again = user.kubectl("apply", "-f", str(GUESTBOOK)).ok
    assert all(line.endswith("unchanged") for line in again.splitlines())


def test_exec_and_logs_reach_the_container(user: User) -> None:
    script = "cat; nslookup redis.default.svc.cluster.local >/dev/null && echo found; exit 7"
    run = user.kubectl("exec", "-i", "deployment/redis", "--", "sh", "-c", script, text="typed\n")
    assert (run.code, run.out) == (7, "typed\nfound\n")
    logs = user.kubectl("logs", "deployment/redis", "--timestamps", "--tail=1").ok
    assert "listens on 6379" in logs
    assert logs[:2] == "20"
    resolv = user.kubectl("exec", "deployment/redis", "--", "cat", "/etc/resolv.conf").ok
    dns = user.get("service", "kube-dns", "-n", "kube-system")["spec"]["clusterIP"]
    assert f"nameserver {dns}" in resolv
    assert "search default.svc.cluster.local svc.cluster.local cluster.local" in resolv
    assert "options ndots:5" in resolv


def test_a_pod_reaches_the_api_with_its_service_account(user: User) -> None:
    """The injected token, CA and address are enough for a client inside the cluster."""
    script = (
        "D=/var/run/secrets/kubernetes.io/serviceaccount; test -s $D/token && test -s $D/ca.crt && "
        "cat $D/namespace; echo; nc -w 3 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT "
        "</dev/null && echo reached"
    )
    out = user.kubectl("exec", "deployment/redis", "--", "sh", "-c", script).ok
    assert out.split() == ["default", "reached"]


def test_what_cannot_run_says_why(user: User) -> None:
    pods = {
        "missing": ("nowhere.invalid/no:1", ["true"], "ErrImagePull ImagePullBackOff"),
        "absent": ("guestbook-backend:1.0", ["/no/such"], "RunContainerError CrashLoopBackOff"),
        "crash": ("guestbook-backend:1.0", ["false"], "Error CrashLoopBackOff"),
    }
    for name, (image, command, _) in pods.items():
        spec = {"containers": [{"name": "c", "image": image, "command": command}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        user.kubectl("apply", "-f", "-", text=json.dumps(body)).ok
    for name, (_, _, reasons) in pods.items():
        path = "{.status.containerStatuses[0].state.waiting.reason}"
        wanted = reasons.split()[-1]
        if name == "absent":
            wanted = "CrashLoopBackOff"
        wait = ("wait", f"pod/{name}", f"--for=jsonpath={path}={wanted}", "--timeout=30s")
        user.kubectl(*wait).ok
    user.kubectl("delete", "pods", *pods, "--now").ok


def test_a_second_cluster_lives_beside_the_first(user: User, tmp_path: Path) -> None:
    other = new_user(tmp_path, "e2e-two")
    try:
        other.sampan("up", "--listen", f"127.0.0.1:{free_port()}").ok
        ours = {item["metadata"]["name"] for item in other.get("services", "-A")["items"]}
        assert ours == {"kubernetes", "kube-dns"}
        networks = [json.loads((u.data / "cluster.json").read_text()) for u in (user, other)]
        assert networks[0]["pod_cidr"] != networks[1]["pod_cidr"]
        assert fetch().split()[0] == "first"
    finally:
        other.sampan("down", "--purge").ok
    assert traces(other.name, other.data) == NOTHING


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    other = new_user(tmp_path, "e2e-port")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        error = other.sampan("up", "--listen", address).failed
    assert error.splitlines()[-1].startswith(f"sampan: {address} is in use; ")
    other.sampan("down", "--purge").ok
    assert traces(other.name, other.data) == NOTHING


def containers(user: User) -> dict[str, str]:
    return {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["containerID"]
        for pod in user.get("pods", "-l", "app=guestbook")["items"]
    }


@pytest.mark.parametrize("part", ["node", "control", "supervisor"])
def test_a_killed_part_comes_back_and_containers_never_notice(user: User, part: str) -> None:
    before = containers(user)
    status = json.loads(user.sampan("status", "--json").ok)
    pid = status["pid"] if part == "supervisor" else status["parts"][part]["pid"]
    os.kill(pid, signal.SIGKILL)
    user.sampan("up").ok
    user.kubectl("rollout", "status", "deployment/frontend", "--timeout=60s").ok
    assert fetch().split()[0] == "first"
    assert containers(user) == before


def test_down_and_up_keep_names_addresses_and_certificates(user: User) -> None:
    before = {name: (user.data / name).read_bytes() for name in IDENTITY}
    services = {s["metadata"]["name"]: s["spec"]["clusterIP"] for s in user.get("svc")["items"]}
    pods = {p["metadata"]["name"]: p["metadata"]["uid"] for p in user.get("pods")["items"]}
    # Who comes while it is being stopped waits for the end of it.
    with ThreadPoolExecutor() as pool:
        said = pool.map(lambda _: user.sampan("down").ok, range(2))
        assert all(line.startswith("cluster ") for line in said)
    assert traces(user.name, user.data) == NOTHING
    user.sampan("up").ok
    assert {name: (user.data / name).read_bytes() for name in IDENTITY} == before
    now = {s["metadata"]["name"]: s["spec"]["clusterIP"] for s in user.get("svc")["items"]}
    assert now == services
    assert {p["metadata"]["name"]: p["metadata"]["uid"] for p in user.get("pods")["items"]} == pods
    user.kubectl("rollout", "status", "deployment/frontend", "--timeout=60s").ok


STORE = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: store}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: store}
spec:
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {fsGroup: 2000, runAsUser: 1000}
      containers:
      - name: c
        image: guestbook-backend:1.0
        command: [sh, -c, "echo $HOSTNAME >> /data/deep/log; exec sleep 1000"]
        volumeMounts: [{name: data, mountPath: /data/deep, subPath: a/b}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: store}}]
"""


def test_what_a_claim_holds_outlives_its_pods_and_goes_with_it(user: User) -> None:
    names = []
    for _ in range(2):
        user.kubectl("apply", "-f", "-", text=STORE).ok
        user.kubectl("rollout", "status", "deployment/store", "--timeout=60s").ok
        names.append(user.get("pods", "-l", "app=store")["items"][0]["metadata"]["name"])
        log = user.kubectl("exec", "deployment/store", "--", "cat", "/data/deep/log").ok
        assert log.split() == names
        user.kubectl("delete", "deployment", "store", "--cascade=foreground", "--wait").ok
    volume = user.get("pvc", "store")["spec"]["volumeName"]
    folder = Path(user.get("pv", volume)["spec"]["local"]["path"])
    assert folder.is_relative_to(user.data)
    assert (folder / "a/b/log").read_text().split() == names
    user.kubectl("delete", "pvc", "store", "--wait").ok
    user.kubectl("wait", "pv", volume, "--for=delete", "--timeout=60s").ok
    assert not folder.exists()


def test_pushed_is_loaded_and_can_be_built_upon(user: User) -> None:
    if RUNTIME == "containerd":
        # Its images are not in a store of ours.
        assert "no registry" in user.sampan("image", "registry").failed
        return
    registry = json.loads(user.sampan("image", "registry", "--json").ok)
    host, password = registry["host"], Path(registry["password_file"]).read_text().strip()
    base, archive = f"{host}/team/base:1", user.home / "guestbook-backend.tar"
    login = ("--dest-tls-verify=false", f"--dest-creds=admin:{password}")
    copy = ("skopeo", "--insecure-policy", "copy", *login)
    user.run(*copy, f"docker-archive:{archive}", f"docker://{base}").ok
    context = user.home / "context"
    context.mkdir()
    steps = [f"FROM {base}", "RUN echo built > /built", 'ENTRYPOINT ["cat", "/built"]']
    (context / "Dockerfile").write_text("\n".join(steps))
    assert "built:1" in user.sampan("image", "build", "-t", "built:1", str(context)).ok
    user.kubectl("run", "built", "--image=built:1", "--restart=Never").ok
    ended = ("--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s")
    user.kubectl("wait", "pod/built", *ended).ok
    assert user.kubectl("logs", "built").ok == "built\n"
    assert "is used by 1 containers" in user.sampan("image", "rm", "built:1").failed
    user.kubectl("delete", "pod", "built", "--now").ok


def test_deleting_everything_leaves_nothing_on_the_node(user: User) -> None:
    user.kubectl("delete", "-f", str(GUESTBOOK), "--wait").ok
    wait = ("wait", "pod", "-l", "app=guestbook", "--for=delete", "--timeout=60s")
    user.kubectl(*wait).ok
    assert user.get("endpointslices")["items"][0]["metadata"]["name"] == "kubernetes"
    left = [c for c in traces(user.name, user.data).processes if "conmon" in c]
    assert left == []
