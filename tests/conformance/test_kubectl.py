"""What kubectl does and says (as upstream's test/e2e/kubectl/kubectl.go), where no container has to
run; what needs one is in tests/clients/test_conformance.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httptools
import orjson

from sampan.testing import Outcome

from .bench import CONTROLLERS, DEPLOYMENTS, NS, PODS, Bench, Obj, controller, deployment
from .kubectl import Kubectl

IMAGE = "agnhost:2"


async def running(bench: Bench, count: int) -> list[Obj]:
    return await bench.listed(
        PODS,
        lambda items: (
            len(items) == count and all(item["status"].get("phase") == "Running" for item in items)
        ),
    )


def primary() -> Obj:
    """Upstream's agnhost-primary: a controller of one pod that listens on 6379."""
    body = controller("agnhost-primary", 1)
    labels = {"app": "agnhost", "role": "primary"}
    body["spec"]["selector"] = body["spec"]["template"]["metadata"]["labels"] = labels
    ports = [{"name": "agnhost-server", "containerPort": 6379}]
    body["spec"]["template"]["spec"]["containers"] = [
        {"name": "agnhost-primary", "image": IMAGE, "ports": ports}
    ]
    return body


async def test_api_versions(kubectl: Kubectl) -> None:
    assert "v1" in (await kubectl("api-versions")).ok.splitlines()


async def test_cluster_info(kubectl: Kubectl) -> None:
    said = (await kubectl("cluster-info")).ok
    assert "Kubernetes control plane" in said
    assert "is running at" in said


async def test_version(kubectl: Kubectl) -> None:
    said = (await kubectl("version", "--output=json")).json
    fields = {"major", "minor", "gitVersion", "gitCommit", "goVersion", "platform"}
    for side in ("clientVersion", "serverVersion"):
        assert fields <= said[side].keys()
        # No commit is known of what was installed from a wheel, and no Go built it.
        assert all(said[side][field] for field in fields - {"gitCommit", "goVersion"})
    plain = (await kubectl("version")).ok
    assert "Client Version: " in plain
    assert "Server Version: " in plain


async def test_describe(bench: Bench, kubectl: Kubectl) -> None:
    service = {
        "metadata": {"name": "agnhost-primary", "labels": {"app": "agnhost", "role": "primary"}},
        "spec": {"ports": [{"port": 6379, "targetPort": "agnhost-server"}],
                 "selector": {"app": "agnhost", "role": "primary"}},
    }  # fmt: skip
    body = primary()
    (await kubectl("create", "-f", "-", given=body)).ok
    await bench.create(f"{NS}/services", service)
    ((found),) = await running(bench, 1)
    name = found["metadata"]["name"]
    await described(
        kubectl, ("pod", name),
        ["Name:", "agnhost-primary-"], ["Namespace:", "default"], ["Node:", "node-0"],
        ["Labels:", "app=agnhost"], ["role=primary"], ["Annotations:"], ["Status:", "Running"],
        ["IP:"], ["Controlled By:", "ReplicationController/agnhost-primary"],
        ["Image:", IMAGE], ["State:", "Running"], ["QoS Class:", "BestEffort"],
    )  # fmt: skip
    await described(
        kubectl, ("rc", "agnhost-primary"),
        ["Name:", "agnhost-primary"], ["Namespace:", "default"], ["Selector:", "app=agnhost,"],
        ["Labels:", "app=agnhost-primary"], ["Annotations:"],
        ["Replicas:", "1 current", "1 desired"], ["Pods Status:", "1 Running", "0 Waiting"],
        ["Pod Template:"], ["Image:", IMAGE], ["Events:"],
    )  # fmt: skip
    await described(
        kubectl, ("service", "agnhost-primary"),
        ["Name:", "agnhost-primary"], ["Namespace:", "default"], ["Labels:", "app=agnhost"],
        ["role=primary"], ["Annotations:"], ["Selector:", "app=agnhost,role=primary"],
        ["Type:", "ClusterIP"], ["IP:"], ["Port:", "<unset>", "6379/TCP"], ["Endpoints:"],
        ["Session Affinity:", "None"],
    )  # fmt: skip
    await described(
        kubectl, ("node", "node-0"),
        ["Name:", "node-0"], ["Labels:"], ["Annotations:"], ["CreationTimestamp:"],
        ["Conditions:"], ["Type", "Status", "LastHeartbeatTime", "Reason", "Message"],
        ["Addresses:"], ["Capacity:"], ["Kubelet Version:"], ["Pods:"],
    )  # fmt: skip
    await described(
        kubectl, ("namespace", "default"),
        ["Name:", "default"], ["Labels:"], ["Annotations:"], ["Status:", "Active"],
    )  # fmt: skip


async def described(kubectl: Kubectl, what: tuple[str, str], *rows: list[str]) -> None:
    """The rows are there in this order, each with its words in one line."""
    lines = iter((await kubectl("describe", *what)).ok.splitlines())
    for words in rows:
        assert any(all(word in line for word in words) for line in lines), (what, words)


async def test_diff(bench: Bench, kubectl: Kubectl) -> None:
    await bench.create(DEPLOYMENTS, deployment())
    changed = deployment()
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "busybox:1"
    said = await kubectl("diff", "-f", "-", given=changed)
    assert said.code == 1
    assert "-      - image: web:1" in said.out
    assert "+      - image: busybox:1" in said.out


async def test_expose(bench: Bench, kubectl: Kubectl) -> None:
    (await kubectl("create", "-f", "-", given=primary())).ok
    await running(bench, 1)
    await kubectl("expose", "rc", "agnhost-primary", "--name=rm2", "--port=1234",
                  "--target-port=6379")  # fmt: skip
    (await kubectl("expose", "service", "rm2", "--name=rm3", "--port=2345",
                   "--target-port=6379")).ok  # fmt: skip
    for name, port in (("rm2", 1234), ("rm3", 2345)):
        service = await bench.get(f"{NS}/services/{name}")
        assert [(item["port"], item["targetPort"]) for item in service["spec"]["ports"]] == [
            (port, 6379)
        ]
        await bench.state(
            f"{NS}/endpoints/{name}",
            lambda obj: [item["ports"][0]["port"] for item in obj.get("subsets") or ()] == [6379],
        )


async def test_label(bench: Bench, kubectl: Kubectl) -> None:
    (await kubectl("run", "pause", f"--image={IMAGE}", "--labels=name=pause")).ok
    await running(bench, 1)
    (await kubectl("label", "pods", "pause", "testing-label=testing-label-value")).ok
    said = (await kubectl("get", "pod", "pause", "-L", "testing-label")).ok
    assert "testing-label-value" in said
    (await kubectl("label", "pods", "pause", "testing-label-")).ok
    said = (await kubectl("get", "pod", "pause", "-L", "testing-label")).ok
    assert "testing-label-value" not in said
    assert "No resources found" in (await kubectl("get", "pod", "-l", "testing-label")).err


async def test_patch(bench: Bench, kubectl: Kubectl) -> None:
    (await kubectl("create", "-f", "-", given=primary())).ok
    ((found),) = await running(bench, 1)
    patch = '{"metadata":{"annotations":{"x":"y"}}}'
    (await kubectl("patch", "pod", found["metadata"]["name"], "-p", patch)).ok
    (patched,) = (await bench.get(PODS))["items"]
    assert patched["metadata"]["annotations"]["x"] == "y"


async def test_replace(bench: Bench, kubectl: Kubectl) -> None:
    # Left to itself, a container that is never restarted ends at once here.
    bench.cluster.script(Outcome(run_s=3600))
    (await kubectl("run", "e2e-test-httpd-pod", "--image=httpd:1", "--restart=Never",
                   "--labels=run=e2e-test-httpd-pod")).ok  # fmt: skip
    await running(bench, 1)
    text = (await kubectl("get", "pod", "e2e-test-httpd-pod", "-o", "json")).ok
    (await kubectl("replace", "-f", "-", given=text.replace("httpd:1", "busybox:1"))).ok
    found = await bench.get(f"{PODS}/e2e-test-httpd-pod")
    assert [item["image"] for item in found["spec"]["containers"]] == ["busybox:1"]
    fresh = orjson.loads(text)
    fresh["metadata"].pop("resourceVersion")
    (await kubectl("replace", "--force", "--grace-period=0", "-f", "-", given=fresh)).ok
    again = await bench.get(f"{PODS}/e2e-test-httpd-pod")
    assert again["metadata"]["uid"] != found["metadata"]["uid"]
    assert again["spec"]["containers"][0]["image"] == "httpd:1"


async def test_run(bench: Bench, kubectl: Kubectl) -> None:
    (await kubectl("run", "e2e-test-httpd-pod", "--restart=Never", "--image=httpd:1",
                   "--pod-running-timeout=2m0s")).ok  # fmt: skip
    found = await bench.get(f"{PODS}/e2e-test-httpd-pod")
    assert [item["image"] for item in found["spec"]["containers"]] == ["httpd:1"]
    assert found["spec"]["restartPolicy"] == "Never"


async def test_dry_run_on_the_server(bench: Bench, kubectl: Kubectl) -> None:
    (await kubectl("run", "e2e-test-httpd-pod", "--image=httpd:1",
                   "--labels=run=e2e-test-httpd-pod")).ok  # fmt: skip
    patch = {"spec": {"containers": [{"name": "e2e-test-httpd-pod", "image": "busybox:1"}]}}
    said = (await kubectl("patch", "pod", "e2e-test-httpd-pod", "-p", orjson.dumps(patch).decode(),
                          "--dry-run=server")).ok  # fmt: skip
    assert "patched" in said
    found = await bench.get(f"{PODS}/e2e-test-httpd-pod")
    assert found["spec"]["containers"][0]["image"] == "httpd:1"


async def test_a_controller_is_made_and_ended(bench: Bench, kubectl: Kubectl) -> None:
    (await kubectl("create", "-f", "-", given=controller("update-demo", 2))).ok
    await running(bench, 2)
    (await kubectl("delete", "--grace-period=0", "--force", "rc", "update-demo")).ok
    await bench.listed(PODS, lambda items: not items)


async def test_a_controller_is_scaled(bench: Bench, kubectl: Kubectl) -> None:
    (await kubectl("create", "-f", "-", given=controller("update-demo", 2))).ok
    await running(bench, 2)
    for count in (1, 2):
        (await kubectl("scale", "rc", "update-demo", f"--replicas={count}", "--timeout=5m")).ok
        await running(bench, count)
        await bench.cluster.settle()
        found = await bench.get(f"{CONTROLLERS}/update-demo")
        assert found["status"]["replicas"] == count


async def fetched(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Obj:
    """The JSON that /api/ answers on a connection."""
    body = bytearray()

    class Response:
        def on_body(self, part: bytes) -> None:
            body.extend(part)

    parser = httptools.HttpResponseParser(Response())
    writer.write(b"GET /api/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    while data := await reader.read(65536):
        parser.feed_data(data)
    writer.close()
    made: Obj = orjson.loads(bytes(body))
    return made


async def proxied(kubectl: Kubectl, *arguments: str, socket: Path | None = None) -> Obj:
    """What a `kubectl proxy` says of /api/."""
    process = await kubectl.begin("proxy", *arguments)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(10):
            said = (await process.stdout.readline()).decode()
            assert said.startswith("Starting to serve on ")
            if socket is not None:
                return await fetched(*await asyncio.open_unix_connection(socket))
            port = int(said.rpartition(":")[2])
            return await fetched(*await asyncio.open_connection("127.0.0.1", port))
    finally:
        process.kill()
        await process.communicate()


async def test_proxy_on_a_free_port(kubectl: Kubectl) -> None:
    assert (await proxied(kubectl, "-p", "0", "--disable-filter"))["versions"] == ["v1"]


async def test_proxy_on_a_socket(kubectl: Kubectl, tmp_path: Path) -> None:
    socket = tmp_path / "s"
    said = await proxied(kubectl, f"--unix-socket={socket}", socket=socket)
    assert said["versions"] == ["v1"]
