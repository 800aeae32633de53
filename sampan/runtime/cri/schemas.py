"""The messages of runtime.v1 that are exchanged, as tables. Pure.

What is left out of a message here (stats, Windows, SELinux) is neither sent nor looked at.
"""

from __future__ import annotations

from typing import Final

from sampan.wire.messages import BOOL, INT, MAP, TEXT, Schema

NOTHING: Final[Schema] = {}
RUNTIME: Final = "/runtime.v1.RuntimeService/"
IMAGE: Final = "/runtime.v1.ImageService/"

# NamespaceMode, SecurityProfile.ProfileType, MountPropagation, ContainerState
POD, CONTAINER, NODE, TARGET = range(4)
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = range(3)
PRIVATE, HOST_TO_CONTAINER, BIDIRECTIONAL = range(3)
CREATED, RUNNING, EXITED = range(3)

_ID: Schema = {"value": (1, INT)}
IMAGE_SPEC: Schema = {"image": (1, TEXT)}
NAMESPACES: Schema = {
    "network": (1, INT),
    "pid": (2, INT),
    "ipc": (3, INT),
    "target_id": (4, TEXT),
}
PROFILE: Schema = {"profile_type": (1, INT), "localhost_ref": (2, TEXT)}
_OF_SANDBOX: Schema = {
    "name": (1, TEXT),
    "uid": (2, TEXT),
    "namespace": (3, TEXT),
    "attempt": (4, INT),
}
SANDBOX: Schema = {
    "metadata": (1, _OF_SANDBOX),
    "hostname": (2, TEXT),
    "log_directory": (3, TEXT),
    "dns_config": (4, {"servers": (1, [TEXT]), "searches": (2, [TEXT]), "options": (3, [TEXT])}),
    "labels": (6, MAP),
    "annotations": (7, MAP),
    "linux": (
        8,
        {
            "cgroup_parent": (1, TEXT),
            "security_context": (
                2,
                {"namespace_options": (1, NAMESPACES), "privileged": (6, BOOL)},
            ),
            "sysctls": (3, MAP),
        },
    ),
}
RESOURCES: Schema = {
    "cpu_period": (1, INT),
    "cpu_quota": (2, INT),
    "cpu_shares": (3, INT),
    "memory_limit_in_bytes": (4, INT),
    "oom_score_adj": (5, INT),
    "cpuset_cpus": (6, TEXT),
    "hugepage_limits": (8, [{"page_size": (1, TEXT), "limit": (2, INT)}]),
    "memory_swap_limit_in_bytes": (10, INT),
}
SECURITY: Schema = {
    "capabilities": (1, {"add_capabilities": (1, [TEXT]), "drop_capabilities": (2, [TEXT])}),
    "privileged": (2, BOOL),
    "namespace_options": (3, NAMESPACES),
    "run_as_user": (5, _ID),
    "run_as_username": (6, TEXT),
    "readonly_rootfs": (7, BOOL),
    "supplemental_groups": (8, [INT]),
    "no_new_privs": (11, BOOL),
    "run_as_group": (12, _ID),
    "masked_paths": (13, [TEXT]),
    "readonly_paths": (14, [TEXT]),
    "seccomp": (15, PROFILE),
}
CONFIG: Schema = {
    "metadata": (1, {"name": (1, TEXT), "attempt": (2, INT)}),
    "image": (2, IMAGE_SPEC),
    "command": (3, [TEXT]),
    "args": (4, [TEXT]),
    "working_dir": (5, TEXT),
    "envs": (6, [{"key": (1, TEXT), "value": (2, TEXT)}]),
    "mounts": (
        7,
        [
            {
                "container_path": (1, TEXT),
                "host_path": (2, TEXT),
                "readonly": (3, BOOL),
                "propagation": (5, INT),
            }
        ],
    ),
    "devices": (
        8,
        [{"container_path": (1, TEXT), "host_path": (2, TEXT), "permissions": (3, TEXT)}],
    ),
    "labels": (9, MAP),
    "annotations": (10, MAP),
    "log_path": (11, TEXT),
    "stdin": (12, BOOL),
    "stdin_once": (13, BOOL),
    "tty": (14, BOOL),
    "linux": (15, {"resources": (1, RESOURCES), "security_context": (2, SECURITY)}),
}
STATUS: Schema = {
    "id": (1, TEXT),
    "state": (3, INT),
    "created_at": (4, INT),
    "started_at": (5, INT),
    "finished_at": (6, INT),
    "exit_code": (7, INT),
    "image_ref": (9, TEXT),
    "reason": (10, TEXT),
    "message": (11, TEXT),
    "annotations": (13, MAP),
    "log_path": (15, TEXT),
}
CRI_IMAGE: Schema = {
    "id": (1, TEXT),
    "repo_tags": (2, [TEXT]),
    "repo_digests": (3, [TEXT]),
    "size": (4, INT),
    "pinned": (8, BOOL),
}
_CONTAINER_ID: Schema = {"container_id": (1, TEXT)}
_SANDBOX_ID: Schema = {"pod_sandbox_id": (1, TEXT)}
_URL: Schema = {"url": (1, TEXT)}

CALLS: Final[dict[str, tuple[str, Schema, Schema]]] = {
    "Version": (RUNTIME, NOTHING, {"runtime_name": (2, TEXT), "runtime_version": (3, TEXT)}),
    "RunPodSandbox": (RUNTIME, {"config": (1, SANDBOX)}, _SANDBOX_ID),
    "StopPodSandbox": (RUNTIME, _SANDBOX_ID, NOTHING),
    "RemovePodSandbox": (RUNTIME, _SANDBOX_ID, NOTHING),
    "ListPodSandbox": (
        RUNTIME,
        NOTHING,
        {
            "items": (
                1,
                [
                    {
                        "id": (1, TEXT),
                        "metadata": (2, _OF_SANDBOX),
                        "state": (3, INT),
                        "labels": (5, MAP),
                    }
                ],
            )
        },
    ),
    "CreateContainer": (
        RUNTIME,
        {"pod_sandbox_id": (1, TEXT), "config": (2, CONFIG), "sandbox_config": (3, SANDBOX)},
        _CONTAINER_ID,
    ),
    "StartContainer": (RUNTIME, _CONTAINER_ID, NOTHING),
    "RemoveContainer": (RUNTIME, _CONTAINER_ID, NOTHING),
    "ListContainers": (
        RUNTIME,
        NOTHING,
        {
            "containers": (
                1,
                [{"id": (1, TEXT), "pod_sandbox_id": (2, TEXT), "image_ref": (5, TEXT)}],
            )
        },
    ),
    "ContainerStatus": (
        RUNTIME,
        {"container_id": (1, TEXT), "verbose": (2, BOOL)},
        {"status": (1, STATUS), "info": (2, MAP)},
    ),
    "ReopenContainerLog": (RUNTIME, _CONTAINER_ID, NOTHING),
    "Attach": (
        RUNTIME,
        {
            "container_id": (1, TEXT),
            "stdin": (2, BOOL),
            "tty": (3, BOOL),
            "stdout": (4, BOOL),
            "stderr": (5, BOOL),
        },
        _URL,
    ),
    "ListImages": (IMAGE, NOTHING, {"images": (1, [CRI_IMAGE])}),
    "ImageStatus": (
        IMAGE,
        {"image": (1, IMAGE_SPEC), "verbose": (2, BOOL)},
        {"image": (1, CRI_IMAGE), "info": (2, MAP)},
    ),
    "PullImage": (
        IMAGE,
        {
            "image": (1, IMAGE_SPEC),
            "auth": (
                2,
                {
                    "username": (1, TEXT),
                    "password": (2, TEXT),
                    "identity_token": (5, TEXT),
                    "registry_token": (6, TEXT),
                },
            ),
        },
        {"image_ref": (1, TEXT)},
    ),
    "RemoveImage": (IMAGE, {"image": (1, IMAGE_SPEC)}, NOTHING),
}
"""Call -> (service, request, answer)."""
