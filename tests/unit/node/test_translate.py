"""A pod's container to the runtime's words: commands, variables, mounts, limits, rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sampan.node.downward import Facts, field_value, resource_value
from sampan.node.environment import (
    ConfigError,
    Environment,
    expand,
    linked_services,
    service_variables,
)
from sampan.node.quality import (
    Bounds,
    cgroup_parent,
    cgroup_resources,
    oom_score_adj,
    qos_class,
)
from sampan.node.translate import Machine, Place, container_spec, sub_path
from sampan.runtime.interface import ContainerSpec, Image
from tests.kit.runtime import BUSYBOX

GIB = 1 << 30


def translate(
    container: dict[str, Any], image: Image = BUSYBOX, lookup: Any = None, **spec: Any
) -> ContainerSpec:
    container = {"name": "c", "image": "busybox"} | container
    pod = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}},
        "spec": {"containers": [container], "nodeName": "n"} | spec,
    }
    facts = Facts(pod, "10.0.0.2", "1.2.3.4", {"cpu": "2", "memory": "4Gi"})
    around = Environment(facts, lookup or (lambda plural, name: None))
    place = Place(
        id="1" * 64,
        restart_count=2,
        log_path=Path("/log"),
        termination_file=Path("/term"),
        network_namespace="/ns",
        etc_files={"/etc/hosts": Path("/p/hosts"), "/etc/resolv.conf": Path("/p/resolv")},
        volumes={("v", ""): Path("/vol"), ("v", "a"): Path("/vol/a")},
    )
    return container_spec(
        container, image, around, place, Machine(Bounds(4 * GIB), "cluster.local", Path("/seccomp"))
    )


A_IS_1 = [{"name": "A", "value": "1"}]
IMAGE = replace(BUSYBOX, entrypoint=("entry",), command=("cmd",), user="app", working_dir="/w")


@pytest.mark.parametrize(
    ("container", "args"),
    [
        ({}, ["entry", "cmd"]),
        ({"args": ["a"]}, ["entry", "a"]),
        ({"command": ["x"]}, ["x"]),
        ({"command": ["x"], "args": ["$(A)", "$$(A)", "$(B)"], "env": A_IS_1},
         ["x", "1", "$(A)", "$(B)"]),
    ],
)  # fmt: skip
def test_command(container: dict[str, Any], args: list[str]) -> None:
    assert list(translate(container, IMAGE).args) == args


def test_no_command() -> None:
    with pytest.raises(ConfigError, match="no command specified"):
        translate({}, replace(BUSYBOX, command=()))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"), ("$(C)", "$(C)"), ("$$(A)", "$(A)"), ("$$", "$"), ("$", "$"),
        ("a$", "a$"), ("$(A", "$(A"), ("$A", "$A"), ("$(A)$(B)", "12"), ("$()", "$()"),
    ],
)  # fmt: skip
def test_expand(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == result


def test_environment_sources_and_order() -> None:
    objects = {
        ("configmaps", "m"): {"data": {"k": "v", "l": "w"}},
        ("secrets", "s"): {"data": {"p": "c2VjcmV0"}},
    }
    made = translate(
        {
            "envFrom": [
                {"prefix": "M_", "configMapRef": {"name": "m"}},
                {"secretRef": {"name": "none", "optional": True}},
            ],
            "env": [
                {"name": "PLAIN", "value": "x-$(M_k)"},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}},
                {
                    "name": "GONE",
                    "valueFrom": {"configMapKeyRef": {"name": "m", "key": "z", "optional": True}},
                },
            ],
        },
        lookup=lambda plural, name: objects.get((plural, name)),
    )
    assert dict(made.env) == {
        "PATH": "/bin", "HOSTNAME": "p", "M_k": "v", "M_l": "w", "PLAIN": "x-v", "POD": "p",
        "IP": "10.0.0.2", "APP": "x", "CPU": "2", "PASS": "secret",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"configMapKeyRef": {"name": "m", "key": "k"}}, 'configmap "m" not found'),
        ({"secretKeyRef": {"name": "m", "key": "k"}}, 'secret "m" not found'),
    ],
)
def test_missing_objects(source: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        translate({"env": [{"name": "A", "valueFrom": source}]})
    assert str(caught.value) == text


def test_service_variables() -> None:
    def service(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}

    services = [
        service("kubernetes", "default", clusterIP="10.96.0.1", ports=[{"port": 443}]),
        service("my-db", "ns", clusterIP="10.96.0.5", ports=[{"name": "sql-x", "port": 5432}]),
        service("headless", "ns", clusterIP="None", ports=[{"port": 1}]),
        service("other", "elsewhere", clusterIP="10.96.0.6", ports=[{"port": 1}]),
    ]
    assert [s["metadata"]["name"] for s in linked_services(services, "ns", False)] == ["kubernetes"]
    links = service_variables(linked_services(services, "ns", True))
    assert links["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert links["KUBERNETES_PORT_443_TCP"] == "tcp://10.96.0.1:443"
    assert links["MY_DB_SERVICE_PORT_SQL_X"] == "5432"
    assert links["MY_DB_PORT_5432_TCP_ADDR"] == "10.96.0.5"
    assert not any(name.startswith(("HEADLESS", "OTHER")) for name in links)


def test_mounts_are_ordered_and_etc_files_yield_to_volumes() -> None:
    made = translate(
        {
            "volumeMounts": [
                {
                    "name": "v",
                    "mountPath": "/data/deep",
                    "readOnly": True,
                    "recursiveReadOnly": "IfPossible",
                },
                {"name": "v", "mountPath": "/etc/hosts", "subPath": "a"},
                {"name": "v", "mountPath": "data", "mountPropagation": "HostToContainer"},
            ]
        }
    )
    assert [(mount.target, mount.source, mount.options[1:]) for mount in made.mounts] == [
        ("/data", "/vol", ("rw", "rslave")),
        ("/data/deep", "/vol", ("ro", "rro", "rprivate")),
        ("/etc/hosts", "/vol/a", ("rw", "rprivate")),
        ("/etc/resolv.conf", "/p/resolv", ("rw", "rprivate")),
        ("/dev/termination-log", "/term", ("rw", "rprivate")),
    ]


@pytest.mark.parametrize(
    ("source", "option"),
    [
        ({"emptyDir": {}}, "rw"),
        ({"persistentVolumeClaim": {"claimName": "c"}}, "rw"),
        ({"persistentVolumeClaim": {"claimName": "c", "readOnly": True}}, "ro"),
        ({"secret": {"secretName": "s"}}, "ro"),
        ({"projected": {"sources": []}}, "ro"),
        ({"image": {"reference": "busybox"}}, "ro"),
    ],
)
def test_volumes_that_nobody_writes_to(source: Any, option: str) -> None:
    mounts = [{"name": "v", "mountPath": "/v", "readOnly": False}]
    made = translate({"volumeMounts": mounts}, volumes=[{"name": "v"} | source])
    assert next(item for item in made.mounts if item.target == "/v").options[1] == option


def test_sub_path_expression() -> None:
    assert sub_path({"subPathExpr": "x/$(A)"}, {"A": "1"}) == "x/1"
    with pytest.raises(ConfigError):
        sub_path({"subPathExpr": "$(B)"}, {})


NON_ROOT = {"runAsNonRoot": True}


@pytest.mark.parametrize(
    ("own", "shared", "image_user", "result"),
    [
        ({}, {}, "", ("", 0, 0)),
        ({}, {}, "app", ("app", 0, 0)),
        ({"runAsUser": 5}, {"runAsGroup": 6}, "app", ("5:6", 5, 6)),
        ({}, {"runAsUser": 7}, "", ("7", 7, 0)),
        (NON_ROOT, {"runAsUser": 7}, "", ("7", 7, 0)),
        (NON_ROOT, {}, "1000:1000", ("1000:1000", 1000, 1000)),
        (NON_ROOT, {}, "", "container has runAsNonRoot and image will run as root"),
        (NON_ROOT | {"runAsUser": 0}, {}, "", "container's runAsUser breaks non-root policy"),
        (NON_ROOT, {}, "app", "image has non-numeric user \\(app\\)"),
    ],
)
def test_user(own: Any, shared: Any, image_user: str, result: Any) -> None:
    image = replace(IMAGE, user=image_user)
    if isinstance(result, str):
        with pytest.raises(ConfigError, match=result):
            translate({"securityContext": own}, image, securityContext=shared)
        return
    made = translate({"securityContext": own}, image, securityContext=shared).security
    assert (made.user, made.uid, made.gid) == result


def test_capabilities_and_confinement() -> None:
    plain = translate({}).security
    assert "CAP_CHOWN" in plain.capabilities
    assert "CAP_SYS_ADMIN" not in plain.capabilities
    assert (plain.seccomp, plain.no_new_privileges, plain.masked_paths) == ("default", False, True)
    tight = translate(
        {
            "securityContext": {
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"},
            }
        },
        securityContext={"fsGroup": 9, "supplementalGroups": [8]},
    ).security
    assert tight.capabilities == ("CAP_NET_BIND_SERVICE",)
    assert tight.no_new_privileges
    assert tight.read_only_root
    assert tight.seccomp == "/seccomp/a.json"
    assert tight.supplemental_gids == (8, 9)
    free = translate({"securityContext": {"privileged": True}}).security
    assert "CAP_SYS_ADMIN" in free.capabilities
    assert (free.seccomp, free.masked_paths) == ("unconfined", False)


def limits(cpu: str = "", memory: str = "") -> dict[str, str]:
    return {key: text for key, text in (("cpu", cpu), ("memory", memory)) if text}


@pytest.mark.parametrize(
    "row",
    [
        ({}, {}, "BestEffort", 1000, 2, 0),
        (limits("1", "1Gi"), limits("1", "1Gi"), "Guaranteed", -997, 1024, 100_000),
        (limits("100m"), {}, "Burstable", 999, 102, 0),
        (limits("", "1Gi"), {}, "Burstable", 750, 2, 0),
        (limits("250m", "4Gi"), limits("500m"), "Burstable", 3, 256, 50_000),
        ({}, limits("2m"), "Burstable", 999, 2, 1_000),
    ],
)
def test_quality_and_cgroup_values(row: Any) -> None:
    requests, most, quality, score, shares, quota = row
    container = {"name": "c", "resources": {"requests": requests, "limits": most}}
    spec = {"containers": [container]}
    assert qos_class(spec) == quality
    assert oom_score_adj(spec, container, 4 * GIB) == score
    made = cgroup_resources(spec, container, Bounds(4 * GIB))
    assert (made.cpu_shares, made.cpu_quota_us) == (shares, quota)
    folder = {"Guaranteed": "", "Burstable": "burstable/", "BestEffort": "besteffort/"}[quality]
    parent = cgroup_parent({"spec": spec, "metadata": {"uid": "u"}})
    assert parent == f"kubepods/{folder}podu"


def test_a_container_without_limits_has_its_pods() -> None:
    """Programs look for them in their own cgroup, and in the downward API (KEP-2837)."""
    bare, own = {"name": "c"}, {"name": "d", "resources": {"limits": {"cpu": "100m"}}}
    spec = {"containers": [bare, own], "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    made = [cgroup_resources(spec, item, Bounds(4 * GIB)) for item in (bare, own)]
    assert [item.cpu_quota_us for item in made] == [100_000, 10_000]
    assert [item.memory_limit_bytes for item in made] == [GIB, GIB]
    facts = Facts({"metadata": {}, "spec": spec}, "", "", {"cpu": "8", "memory": "4Gi"})
    for kind, values in (("cpu", ("1", "1")), ("memory", (str(GIB), str(GIB)))):
        ref = {"resource": f"limits.{kind}"}
        assert tuple(resource_value(facts, ref, item) for item in (bare, own)) == values


def test_downward_api() -> None:
    resources = {"limits": {"cpu": "1500m"}, "requests": {"memory": "1Mi"}}
    container = {"name": "c", "resources": resources}
    meta = {"name": "p", "namespace": "ns", "uid": "u", "annotations": {"b": '"', "a": "1"}}
    facts = Facts(
        {"metadata": meta, "spec": {"containers": [container]}}, "", "", {"memory": "4Gi"}
    )
    assert field_value(facts, "metadata.annotations") == 'a="1"\nb="\\""'
    assert resource_value(facts, {"resource": "limits.cpu"}, container) == "2"
    assert resource_value(facts, {"resource": "limits.cpu", "divisor": "1m"}, container) == "1500"
    assert resource_value(facts, {"resource": "requests.memory", "divisor": "1Ki"}, container) == (
        "1024"
    )
    assert resource_value(facts, {"resource": "limits.memory", "containerName": "c"}) == str(
        4 * GIB
    )
