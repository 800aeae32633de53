"""Devices (DRA): what is offered, and a pod that uses it."""

from __future__ import annotations

from typing import Any

DRIVER = "dev.sampan.test"
API = "resource.k8s.io/v1"
CDI = f"{DRIVER}/thing=one"


def spec(folder: str) -> dict[str, Any]:
    """What CDI says of the device."""
    edits = {
        "env": ["THING=one"],
        "deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/null"}],
        "mounts": [{"hostPath": folder, "containerPath": "/thing"}],
        "hooks": [{"hookName": "createRuntime", "path": "/bin/sh",
                   "args": ["sh", "-c", f"echo hooked > {folder}/hooked"]}],
    }  # fmt: skip
    kind = CDI.partition("=")[0]
    devices = [{"name": "one", "containerEdits": edits}]
    return {"cdiVersion": "0.6.0", "kind": kind, "devices": devices}


def offered(node: str) -> list[dict[str, Any]]:
    selector = {"cel": {"expression": f'device.driver == "{DRIVER}"'}}
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    exactly = {"deviceClassName": "thing"}
    wanted = {"devices": {"requests": [{"name": "thing", "exactly": exactly}]}}
    return [
        {"apiVersion": API, "kind": "DeviceClass", "metadata": {"name": "thing"},
         "spec": {"selectors": [selector]}},
        {"apiVersion": API, "kind": "ResourceSlice", "metadata": {"name": "thing"},
         "spec": {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": [{"name": "d"}]}},
        {"apiVersion": API, "kind": "ResourceClaimTemplate", "metadata": {"name": "thing"},
         "spec": {"spec": wanted}},
    ]  # fmt: skip


def user() -> dict[str, Any]:
    script = "echo $THING; cat /thing/hooked; test -c /dev/thing && echo device"
    container = {
        "name": "c", "image": "busybox:test", "command": ["sh", "-c", script],
        "resources": {"claims": [{"name": "mine"}]},
    }  # fmt: skip
    claims = [{"name": "mine", "resourceClaimTemplateName": "thing"}]
    spec = {"restartPolicy": "Never", "containers": [container], "resourceClaims": claims}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "device"}, "spec": spec}
