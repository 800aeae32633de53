"""The pods of test_pods.py: what each is made of, and what it says. Pure."""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]

IMAGE, TALKER = "busybox:test", "talker:test"
LOOP = "trap 'exit 0' TERM; sleep 1000 & wait"
SERVER = "httpd -f -vv -p 8080 -h /tmp"


def container(script: str = "", name: str = "c", **more: Any) -> Obj:
    out: Obj = {"name": name, "image": IMAGE, "imagePullPolicy": "Never"}
    if script:
        out["command"] = ["sh", "-c", script]
    return {**out, **more}


def pod(name: str, *containers: Obj, **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"of": "pods", "name": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [*containers],
            **spec,
        },
    }


def config() -> list[Obj]:
    keys = {"data-1": "value-1", "data_2": "value-2"}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keys"}, "data": keys},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys},
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "fooservice"},
            "spec": {"selector": {"name": "server"},
                     "ports": [{"port": 8765, "targetPort": 8080}]},
        },
    ]  # fmt: skip


def field(name: str, path: str) -> Obj:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def amount(name: str, resource: str) -> Obj:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource}}}


def environments() -> list[Obj]:
    """Variables of all sources, expanded and not."""
    refs = {"configMap": "configMapKeyRef", "secret": "secretKeyRef"}
    consumers = [
        pod(
            f"env-{kind}".lower(),
            container(
                # A shell would drop names that are none of its own.
                command=["env"],
                env=[{"name": "DATA", "valueFrom": {ref: {"name": "keys", "key": "data-1"}}}],
                envFrom=[
                    {f"{kind}Ref": {"name": "keys"}},
                    {"prefix": "p-", f"{kind}Ref": {"name": "keys"}},
                ],
            ),
        )
        for kind, ref in refs.items()
    ]
    downward = [
        field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_IP", "status.podIP"), field("HOST_IP", "status.hostIP"),
        field("HOST_IPS", "status.hostIPs"), field("POD_UID", "metadata.uid"),
        amount("CPU_LIMIT", "limits.cpu"), amount("MEMORY_LIMIT", "limits.memory"),
        amount("CPU_REQUEST", "requests.cpu"), amount("MEMORY_REQUEST", "requests.memory"),
    ]  # fmt: skip
    resources = {
        "requests": {"cpu": "250m", "memory": "32Mi"},
        "limits": {"cpu": "1250m", "memory": "64Mi"},
    }
    composed = [{"name": "FOO", "value": "foo-value"}, {"name": "BAR", "value": "bar-value"},
                {"name": "FOOBAR", "value": "$(FOO);;$(BAR)"}]  # fmt: skip
    return [
        *consumers,
        pod("env-downward", container("env", env=downward, resources=resources)),
        pod("env-defaults", container("env", env=downward[6:8])),
        pod("env-services", container("env"), enableServiceLinks=True),
        pod("env-composed", container("env", env=composed)),
        pod("args", container("", env=[{"name": "VAR", "value": "test-value"}],
                              command=["sh", "-c"], args=['echo "$(VAR)"'])),
        pod("command", container("", env=[{"name": "VAR", "value": "test-value"}],
                                 command=["sh", "-c", 'echo "$(VAR)"'])),
    ]  # fmt: skip


def sub_path(name: str, value: str, script: str) -> Obj:
    mount = {"name": "work", "mountPath": "/volume", "subPathExpr": "$(VAR)"}
    whole = {"name": "work", "mountPath": "/whole"}
    return pod(
        name,
        container(script, env=[{"name": "VAR", "value": value}], volumeMounts=[mount, whole]),
        volumes=[{"name": "work", "emptyDir": {}}],
    )


def expansions() -> list[Obj]:
    later = sub_path("sub-later", "", "touch /volume/log && ls /whole/foo/deep")
    (only,) = later["spec"]["containers"]
    only["env"] = [field("VAR", "metadata.annotations['path']")]
    # Without the annotation it begins at the root, which is refused.
    only["volumeMounts"][0]["subPathExpr"] = "$(VAR)/deep"
    return [
        sub_path("sub-path", "foo", "touch /volume/test.log && ls /whole/foo"),
        sub_path("sub-absolute", "/tmp", "true"),
        sub_path("sub-backticks", "../../..", "true"),
        later,
    ]


def words() -> list[Obj]:
    """Commands and arguments beside those of an image, whose ENTRYPOINT is `echo of-image` and
    whose CMD is `by-default`."""
    return [
        pod("words-none", container("", image=TALKER)),
        pod("words-args", container("", image=TALKER, args=["other", "arguments"])),
        pod("words-command", container("", image=TALKER, command=["echo", "other"])),
        pod("words-both", container("", image=TALKER, command=["echo", "other"], args=["both"])),
    ]


def messages() -> list[Obj]:
    """Termination messages."""
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    at = {"terminationMessagePath": "/dev/termination-custom-log"}
    user = {"securityContext": {"runAsUser": 1000}}
    path = "/dev/termination-log"
    return [
        pod("message-user", container("echo -n DONE > /dev/termination-custom-log", **at, **user)),
        pod("message-log", container("echo -n DONE; exit 1", **fallback)),
        pod("message-none", container("echo DONE", **fallback)),
        pod("message-file", container(f"echo -n OK > {path}", **fallback)),
    ]


def exits() -> list[Obj]:
    """Restart policies: each counts its runs in a volume."""
    count = "n=$(cat /v/n 2>/dev/null || echo 0); n=$((n+1)); echo $n > /v/n; "
    work: Obj = {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "restartPolicy": "",
    }
    at = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    scripts = {
        "Always": "case $n in 1) exit 1;; *) sleep 1000;; esac",
        "OnFailure": "case $n in 1) exit 1;; *) exit 0;; esac",
        "Never": "exit 1",
    }
    return [
        pod(f"exit-{policy}".lower(), container(count + script, **at),
            **{**work, "restartPolicy": policy})
        for policy, script in scripts.items()
    ]  # fmt: skip


def inits() -> list[Obj]:
    def made(name: str, policy: str, script: str) -> Obj:
        first = [container("true", "init1"), container(script, "init2")]
        run = "sleep 1000" if policy == "Always" else "true"
        return pod(name, container(run), initContainers=first, restartPolicy=policy)

    return [
        made("init-always", "Always", "true"),
        made("init-never", "Never", "true"),
        made("init-never-fails", "Never", "exit 1"),
        made("init-always-fails", "Always", "exit 1"),
    ]


def contexts() -> list[Obj]:
    """What a container may, and who it is."""
    show = "id -u; id -g"
    sysctls = [{"name": "kernel.shm_rmid_forced", "value": "1"}]
    writes = "touch /file && echo written || echo refused"
    link = "ip link add dummy0 type bridge && echo may || echo may-not"
    rights = "id -u; grep NoNewPrivs /proc/self/status"
    root = {"securityContext": {"readOnlyRootFilesystem": False}}
    closed = {"securityContext": {"readOnlyRootFilesystem": True}}
    both = {"runAsUser": 1001, "runAsGroup": 2002}
    confined = {"allowPrivilegeEscalation": False, "runAsUser": 1000}
    return [
        pod("user", container(show, securityContext={"runAsUser": 65534})),
        pod("unprivileged", container(link, securityContext={"privileged": False})),
        pod("writable", container(writes, **root)),
        pod("closed", container(writes, **closed)),
        pod("groups-of-pod", container(show), securityContext=both),
        pod("groups-of-container", container(show, securityContext=both)),
        pod("no-escalation", container(rights, securityContext=confined)),
        pod("sysctl", container("cat /proc/sys/kernel/shm_rmid_forced"),
            securityContext={"sysctls": sysctls}),
    ]  # fmt: skip


def sayings() -> list[Obj]:
    aliases = [{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]
    node_hosts = [{"name": "h", "hostPath": {"path": "/etc/hosts", "type": "File"}}]
    at = {"volumeMounts": [{"name": "h", "mountPath": "/etc/hosts"}]}
    return [
        pod("says", container("echo Hello World; echo to-stderr >&2")),
        pod("fails", container("false")),
        pod("aliases", container("cat /etc/hosts"), hostAliases=aliases),
        pod("hosts", container("cat /etc/hosts"), container("cat /etc/hosts", "own", **at),
            volumes=node_hosts),
        pod("hosts-of-node", container("cat /etc/hosts"), hostNetwork=True),
    ]  # fmt: skip


def server() -> Obj:
    return pod("server", container(f"echo ok > /tmp/healthz; {SERVER}"))


def hooked(host: str) -> list[Obj]:
    """Pods whose hooks ask the server."""

    def by_http(path: str) -> Obj:
        return {"httpGet": {"path": f"/{path}-http", "port": 8080, "host": host}}

    def by_exec(path: str) -> Obj:
        ask = f"wget -qO- http://{host}:8080/{path}-exec; true"
        return {"exec": {"command": ["sh", "-c", ask]}}

    return [
        pod(f"hook-{name}", container(LOOP, lifecycle={
            "postStart": made("poststart"), "preStop": made("prestop"),
        }), terminationGracePeriodSeconds=30)
        for name, made in (("http", by_http), ("exec", by_exec))
    ]  # fmt: skip


GRPC_ANSWER = b"".join(
    len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body
    for kind, flags, stream, body in (
        (4, 0, 0, b""),  # SETTINGS
        (1, 4, 1, b"\x88"),  # HEADERS, :status 200
        (0, 0, 1, b"\0\0\0\0\x02\x08\x01"),  # DATA: SERVING
        (1, 5, 1, b"\0\x0bgrpc-status\x010"),  # HEADERS at the end
    )
)
"""What a health server of gRPC says, whatever it is asked: HTTP/2 frames."""


def probes() -> list[Obj]:
    """Probes that hold, and those that do not: the file is gone after a second."""
    fine, late = "touch /tmp/health; ", "touch /tmp/health; (sleep 1; rm /tmp/health) & "
    listens = "echo ok > /tmp/healthz; (sleep 1; rm -f /tmp/healthz) & "
    octal = "".join(f"\\{byte:03o}" for byte in GRPC_ANSWER)
    grpc = (
        f"printf '{octal}' > /tmp/frames; printf '#!/bin/sh\\ncat /tmp/frames; sleep 0.5' "
        "> /tmp/answer; chmod +x /tmp/answer; while true; do nc -l -p 5000 -e /tmp/answer; done"
    )
    # What holds is given time on a machine that is busy; a refusal is a failure at once.
    often = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 10}
    by_exec = {"exec": {"command": ["cat", "/tmp/health"]}}
    by_http = {"httpGet": {"path": "/healthz", "port": 8080}}
    by_tcp = {"tcpSocket": {"port": 8080}}

    def live(name: str, script: str, **probe: Any) -> Obj:
        made = container(script, livenessProbe={**often, **probe})
        return pod(name, made, restartPolicy="Always")

    def ready(name: str, script: str, **probe: Any) -> Obj:
        made = container(script, readinessProbe={**often, **probe})
        return pod(name, made, restartPolicy="Always")

    return [
        live("live-exec", fine + LOOP, **by_exec),
        live("live-http", f"echo ok > /tmp/healthz; {SERVER}", **by_http),
        live("live-tcp", listens + SERVER, **by_tcp),
        live("dies-exec", late + LOOP, **by_exec),
        live("dies-http", listens + SERVER, **by_http),
        live("live-grpc", grpc, grpc={"port": 5000}),
        live("dies-grpc", grpc, grpc={"port": 2333}),
        ready("ready-late", fine + LOOP, **by_exec, initialDelaySeconds=3),
        ready("ready-never", LOOP, exec={"command": ["false"]}),
    ]


def changed() -> list[Obj]:
    """What the tests change."""
    amounts = {"cpu": "20m", "memory": "20Mi"}
    three = [
        container(LOOP, f"c{number}", resources={"requests": amounts, "limits": amounts})
        for number in (1, 2, 3)
    ]
    small = [
        container(LOOP, "c1", resources={"requests": amounts, "limits": amounts}),
        container(LOOP, "c2", resources={"requests": amounts}),
    ]
    return [
        pod("deadline", container(LOOP)),
        pod("living", container(f"echo container is alive; {LOOP}")),
        pod("debugged", container(LOOP)),
        pod("resized", *three),
        pod("burstable", *small),
    ]


def short() -> list[Obj]:
    """Pods that end."""
    subs = [item for item in expansions() if item["metadata"]["name"] == "sub-path"]
    ended = [item for item in exits() if item["spec"]["restartPolicy"] == "OnFailure"]
    return [*environments(), *subs, *words(), *messages(), *contexts(), *sayings(), *ended]


def lasting() -> list[Obj]:
    """Pods that do not, or not well."""
    names = {item["metadata"]["name"] for item in short()}
    others = [*expansions(), *exits(), *inits(), *probes(), *changed()]
    return [item for item in others if item["metadata"]["name"] not in names]
