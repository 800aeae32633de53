"""config.json as a function of the spec; the whole of one is kept as a transcript."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sampan.runtime.bundle import Surroundings, build_config, exec_process
from sampan.runtime.filters import BPF_ANNOTATION
from sampan.runtime.interface import ContainerSpec, Mount, Resources, Security

AROUND = Surroundings(rootfs="/run/c/rootfs", cgroup="/sampan-t/kubepods/pod1/c1")


def spec(**fields: Any) -> ContainerSpec:
    values: dict[str, Any] = {
        "id": "c" * 64,
        "image": "sha256:" + "a" * 64,
        "args": ["server", "--port=80"],
        "env": [("A", "1"), ("B", "2=3")],
        "network_namespace": "/run/netns/pod1",
        "hostname": "web-0",
    }
    return ContainerSpec(**{**values, **fields})


def test_whole_configuration(request: pytest.FixtureRequest) -> None:
    config = build_config(
        spec(
            working_dir="/srv",
            mounts=[
                Mount("/data/sub", "/vol/b", options=("rbind", "ro", "rslave")),
                Mount("/data", "/vol/a", options=("rbind", "rw", "rprivate")),
                Mount("/dev/shm", "/vol/shm", options=("rbind", "rw")),
            ],
            resources=Resources(
                cpu_shares=512,
                cpu_quota_us=50_000,
                memory_limit_bytes=64 << 20,
                pids_limit=100,
            ),
            security=Security(
                uid=1000,
                gid=1000,
                supplemental_gids=[2000],
                capabilities=["CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
                no_new_privileges=True,
                read_only_root=True,
            ),
            annotations={"io.kubernetes.pod.uid": "1"},
        ),
        Surroundings(
            rootfs=AROUND.rootfs,
            cgroup=AROUND.cgroup,
            oom_score_adj=900,
            seccomp_program="UFJPR1JBTQ==",
        ),
    )
    text = json.dumps(config, indent=2) + "\n"
    golden = Path(__file__).with_name("bundle.json")
    if request.config.getoption("--rewrite"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_dev_is_always_a_fresh_tmpfs() -> None:
    config = build_config(spec(), AROUND)
    assert [mount["type"] for mount in config["mounts"] if mount["destination"] == "/dev"] == [
        "tmpfs"
    ]


def test_privileged_has_all_and_no_seccomp() -> None:
    around = Surroundings(
        "/r", "/g", all_capabilities=["CAP_SYS_ADMIN"], devices=[{"path": "/dev/x"}]
    )
    config = build_config(spec(security=Security(privileged=True)), around)
    assert config["process"]["capabilities"]["bounding"] == ["CAP_SYS_ADMIN"]
    assert "seccomp" not in config["linux"]
    assert "maskedPaths" not in config["linux"]
    assert config["linux"]["devices"] == [{"path": "/dev/x"}]
    assert config["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    sys = next(mount for mount in config["mounts"] if mount["destination"] == "/sys")
    assert "rw" in sys["options"]
    assert "ro" not in sys["options"]


def test_namespaces_are_shared_as_asked() -> None:
    config = build_config(spec(network_namespace="", share_pid_with=-1, share_ipc_with=42), AROUND)
    assert config["linux"]["namespaces"] == [
        {"type": "mount"},
        {"type": "ipc", "path": "/proc/42/ns/ipc"},
    ]
    assert "hostname" not in config


@pytest.mark.parametrize("security", [Security(), Security(seccomp="unconfined")])
def test_annotations_cannot_switch_protection_off(security: Security) -> None:
    """crun takes orders from annotations, and pods may choose theirs."""
    evil = {BPF_ANNOTATION: "AAAA", "run.oci.keep_original_groups": "1", "mine": "x"}
    config = build_config(spec(annotations=evil, security=security), AROUND)
    assert config["annotations"] == {"mine": "x"}


def test_without_a_compiled_filter_crun_gets_the_profile() -> None:
    config = build_config(spec(), AROUND)
    assert config["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"


def test_exec_keeps_user_and_rights() -> None:
    config = build_config(spec(security=Security(uid=7, capabilities=["CAP_KILL"])), AROUND)
    process = exec_process(config, ["sh"], tty=True)
    assert process["args"] == ["sh"]
    assert process["terminal"] is True
    assert process["user"]["uid"] == 7
    assert process["capabilities"]["effective"] == ["CAP_KILL"]
    assert "TERM=xterm" in process["env"]
    assert "PATH=" in "".join(process["env"])
    assert config["process"]["args"] == ["server", "--port=80"]
