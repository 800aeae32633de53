"""The pods of test_volumes.py: what each mounts, and what it says of it. Pure."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

Obj = dict[str, Any]

IMAGE = "busybox:test"
SHOW = 'for f in $FILES; do echo "$f $(stat -Lc %a $f) $(cat $f)"; done'
"""A line per file: path, mode, content."""
KEYS = {"data-1": "value-1", "data-2": "value-2"}
KINDS = ("configMap", "secret", "projected-configMap", "projected-secret")
SUB_PATHS = ("configmap", "secret", "projected", "downward")
RESOURCES = {
    "requests": {"cpu": "250m", "memory": "32Mi"},
    "limits": {"cpu": "1250m", "memory": "64Mi"},
}
WIDE_MAPS = 50
PRIVILEGED = {"securityContext": {"privileged": True}}


def container(name: str, script: str, mounts: list[Obj], **more: Any) -> Obj:
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "volumeMounts": mounts,
        **more,
    }


def pod(name: str, containers: list[Obj], volumes: list[Obj], **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"of": "volumes", "name": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": containers,
            "volumes": volumes,
            **spec,
        },
    }


def mount(name: str, path: str, **more: Any) -> Obj:
    return {"name": name, "mountPath": path, **more}


def keyed(kind: str, name: str = "keys", mode: int | None = None, **more: Any) -> Obj:
    """A volume's source of one of `KINDS`; `more` goes to the ConfigMap or Secret."""
    projected = kind.startswith("projected-")
    plain = kind.removeprefix("projected-")
    named = "secretName" if plain == "secret" and not projected else "name"
    outer: Obj = {} if mode is None else {"defaultMode": mode}
    if projected:
        return {"projected": {"sources": [{plain: {named: name, **more}}], **outer}}
    return {plain: {named: name, **more, **outer}}


def item(path: str, mode: int | None = None) -> list[Obj]:
    return [{"key": "data-2", "path": path} | ({} if mode is None else {"mode": mode})]


def consumers() -> list[Obj]:
    """Every kind in every way: default, modes, items, items with modes, twice; by root, by a user,
    and by one of a group."""
    volumes = []
    for kind in KINDS:
        sources = {
            "plain": keyed(kind),
            "mode": keyed(kind, mode=0o400),
            "items": keyed(kind, items=item("path/to/data-2")),
            "itemmode": keyed(kind, items=item("path/to/data-2", 0o400)),
            "again": keyed(kind),
            "wide": keyed(kind, mode=0o440),
        }
        volumes += [{"name": f"{kind}-{name}".lower(), **each} for name, each in sources.items()]
    mounts = [mount(volume["name"], f"/v/{volume['name']}") for volume in volumes]
    ways = {
        "root": ("plain/data-1 mode/data-1 again/data-1 items/path/to/data-2 "
                 "itemmode/path/to/data-2", {}),
        "user": ("plain/data-1 items/path/to/data-2", {"runAsUser": 1000}),
        "group": ("wide/data-1", {"runAsUser": 1000, "fsGroup": 1001}),
    }  # fmt: skip
    out = []
    for name, (paths, shared) in ways.items():
        files = " ".join(f"{kind}-{path}".lower() for kind in KINDS for path in paths.split())
        script = f"id -u; cd /v; FILES='{files}'; {SHOW}"
        out.append(pod(name, [container("c", script, mounts)], volumes, securityContext=shared))
    return out


def scratch() -> list[Obj]:
    """emptyDirs of both media: their own mode, and files of three modes by root and by a user."""
    out = []
    for user in (0, 1000):
        media = {"default": {}, "tmpfs": {"medium": "Memory"}}
        script = (
            'for v in default tmpfs; do stat -c "$v %a" /v/$v; '
            'stat -f -c "$v %T" /v/$v; for m in 644 666 777; do '
            "echo content > /v/$v/f; chmod $m /v/$v/f; "
            'echo "$v $m $(stat -c %a /v/$v/f) $(cat /v/$v/f)"; done; done'
        )
        mounts = [mount(name, f"/v/{name}") for name in media]
        volumes = [{"name": name, "emptyDir": source} for name, source in media.items()]
        shared = {"runAsUser": user}
        name = f"scratch-{user}"
        out.append(pod(name, [container("c", script, mounts)], volumes, securityContext=shared))
    mounts = [mount("v", "/v")]
    wait = "while ! [ -s /v/file ]; do sleep 0.05; done; cat /v/file"
    both = [
        container("main", wait, mounts),
        container("sub", "echo shared > /v/f && mv /v/f /v/file", mounts),
    ]
    out.append(pod("scratch-shared", both, [{"name": "v", "emptyDir": {}}]))
    return out


def facts(*, resources: bool = True) -> list[Obj]:
    """Items of a downwardAPI volume."""
    paths = {"cpu_limit": ("limits.cpu", "1m"), "memory_limit": ("limits.memory", "1Mi")}
    if resources:
        paths |= {"cpu_request": ("requests.cpu", "1m"),
                  "memory_request": ("requests.memory", "1Mi")}  # fmt: skip
    out: list[Obj] = [
        {"path": path, "resourceFieldRef": {"containerName": "c", "resource": what, "divisor": by}}
        for path, (what, by) in paths.items()
    ]
    out.append({"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}})
    return out


def told() -> list[Obj]:
    """Downward facts, in a volume of their own and in a projected one; with limits and without."""
    out = []
    for name, resources in (("told-limited", RESOURCES), ("told-free", {})):
        items = facts(resources=bool(resources))
        one = [{"path": "podname", "mode": 0o400, "fieldRef": {"fieldPath": "metadata.name"}}]
        volumes = []
        for kind in ("downward", "projected"):
            for what, entries, mode in (
                ("facts", items, {}),
                ("mode", items, {"defaultMode": 0o400}),
                ("item", one, {}),
            ):
                api = {"items": entries}
                source = (
                    {"downwardAPI": api | mode}
                    if kind == "downward"
                    else {"projected": {"sources": [{"downwardAPI": api}], **mode}}
                )
                volumes.append({"name": f"{kind}-{what}", **source})
        mounts = [mount(item["name"], f"/v/{item['name']}") for item in volumes]
        paths = " ".join(item["path"] for item in items)
        listed = (
            f"for k in downward projected; do for f in {paths}; do echo /v/$k-facts/$f; done; "
            "echo /v/$k-mode/podname /v/$k-item/podname; done"
        )
        files = f"$({listed})"
        own = container("c", f'FILES="{files}"; {SHOW}', mounts, resources=resources)
        out.append(pod(name, [own], volumes))
    sources = [
        {"configMap": {"name": "keys", "items": item("cm")}},
        {"secret": {"name": "keys", "items": item("secret")}},
        {"downwardAPI": {"items": facts()}},
    ]
    files = "/v/cm /v/secret /v/podname /v/cpu_limit /v/memory_request"
    own = container("c", f"FILES='{files}'; {SHOW}", [mount("v", "/v")], resources=RESOURCES)
    out.append(pod("combined", [own], [{"name": "v", "projected": {"sources": sources}}]))
    return out


def parts() -> Obj:
    """One file of each volume that is written atomically, by subPath; one over a file of the
    image."""
    volumes = [
        {"name": "configmap", **keyed("configMap")},
        {"name": "secret", **keyed("secret")},
        {"name": "projected", **keyed("projected-configMap")},
        {"name": "downward", "downwardAPI": {"items": facts()[-1:]}},
    ]
    mounts = [
        mount(name, f"/v/{name}", subPath="podname" if name == "downward" else "data-1")
        for name in SUB_PATHS
    ]
    mounts.append(mount("configmap", "/etc/resolv.conf", subPath="data-2"))
    files = " ".join(item["mountPath"] for item in mounts)
    return pod("parts", [container("c", f"FILES='{files}'; {SHOW}", mounts)], volumes)


def living() -> Obj:
    """A pod that goes on, with what changes while it runs."""
    volumes: list[Obj] = []
    for kind in KINDS:
        for what in ("created", "updated", "deleted"):
            name = f"{what}-{kind}".lower()
            source = keyed(kind, f"{what}-{kind}".lower(), optional=True)
            volumes.append({"name": name, **source})
    fields = [
        {"path": field, "fieldRef": {"fieldPath": f"metadata.{field}"}}
        for field in ("labels", "annotations")
    ]
    volumes.append({"name": "downward", "downwardAPI": {"items": fields}})
    sources = [{"downwardAPI": {"items": fields}}]
    volumes.append({"name": "projected", "projected": {"sources": sources}})
    mounts = [mount(item["name"], f"/v/{item['name']}") for item in volumes]
    return pod("living", [container("c", "exec sleep 1000", mounts)], volumes)


def wide() -> list[Obj]:
    """Five pods, each with fifty ConfigMaps as volumes; and a Secret beside a ConfigMap."""
    names = [f"wide-{number}" for number in range(WIDE_MAPS)]
    volumes = [{"name": name, "configMap": {"name": name}} for name in names]
    mounts = [mount(name, f"/v/{name}") for name in names]
    out = [
        pod(f"wide-{number}", [container("c", "cat /v/*/data-1 | wc -l", mounts)], volumes)
        for number in range(5)
    ]
    volumes = [{"name": "s", **keyed("secret")}, {"name": "m", **keyed("configMap")}]
    mounts = [mount("s", "/v/s"), mount("m", "/v/m")]
    script = f"FILES='/v/s/data-1 /v/m/data-1'; {SHOW}"
    return [*out, pod("both", [container("c", script, mounts)], volumes)]


def config(name: str, **data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def objects() -> list[Obj]:
    """What the pods refer to, first."""
    out = [config("keys", **KEYS), secret("keys", **KEYS)]
    for kind in KINDS:
        make = config if kind.endswith("configMap") else secret
        for what in ("updated", "deleted"):
            out.append(make(f"{what}-{kind}".lower(), **{"data-1": "value-1"}))
    out += [config(f"wide-{number}", **{"data-1": "x\n"}) for number in range(WIDE_MAPS)]
    other = secret("keys", **{"data-1": "of-another-namespace"})
    other["metadata"]["namespace"] = "kube-public"
    binary = config("binary", **{"data-1": "value-1\n"})
    binary["binaryData"] = {"dump.bin": b64encode(bytes([0xDE, 0xCA, 0xFE, 0xBA, 0xD0])).decode()}
    return [*out, other, binary]


def short() -> list[Obj]:
    """Pods that say what they have to say and end."""
    script = "cat /v/data-1; od -An -tx1 /v/dump.bin"
    volume = [{"name": "v", "configMap": {"name": "binary"}}]
    binary = pod("binary", [container("c", script, [mount("v", "/v")])], volume)
    return [*consumers(), *scratch(), *told(), parts(), *wide(), binary]


def host_paths(folder: str) -> list[Obj]:
    """A pod for each type of hostPath; what is in `folder` is made by the test."""
    types = ("Directory", "File", "Socket", "CharDevice", "BlockDevice")
    wrong = {kind: ("file" if kind == "Directory" else "folder") for kind in types}
    right = {"Directory": "folder", "File": "file", "Socket": "socket", "CharDevice": "char",
             "DirectoryOrCreate": "new/folder", "FileOrCreate": "new-file", "": "any"}  # fmt: skip
    out = []
    for kind, name in wrong.items():
        source = {"path": f"{folder}/{name}", "type": kind}
        volumes = [{"name": "v", "hostPath": source}]
        own = [container("c", "true", [mount("v", "/v")])]
        out.append(pod(f"wrong-{kind}".lower(), own, volumes))
    volumes = [
        {"name": f"v{index}", "hostPath": {"path": f"{folder}/{name}", "type": kind}}
        for index, (kind, name) in enumerate(right.items())
    ]
    mounts = [mount(item["name"], f"/v/{item['name']}") for item in volumes]
    script = "cd /v; for f in *; do stat -c '%n %F' $f; done"
    return [*out, pod("right", [container("c", script, mounts)], volumes)]


def tricks(folder: str) -> list[Obj]:
    """Pods that lead subPaths out of their volumes; `folder` has a link to a file of the host, and
    to its root. What they may reach is inside the volume."""
    out = []
    ways = {"link": "out/etc/hostname", "file": "secret", "up": "in/../../../etc", "root": "/etc"}
    for name, part in ways.items():
        volumes = [{"name": "v", "hostPath": {"path": f"{folder}/volume"}}]
        mounts = [mount("v", "/v", subPathExpr="$(PART)")]
        told = [{"name": "PART", "value": part}]
        own = container("c", "cat /v 2>&1; ls /v", mounts, env=told)
        out.append(pod(f"trick-{name}", [own], volumes))
    return out


def deep() -> Obj:
    """A volume with a mount in it, read-only in every depth there is."""
    ways = {
        "plain": {"readOnly": True},
        "enabled": {"readOnly": True, "recursiveReadOnly": "Enabled"},
        "possible": {"readOnly": True, "recursiveReadOnly": "IfPossible"},
        "disabled": {"readOnly": True, "recursiveReadOnly": "Disabled"},
    }
    mounts = [mount("v", f"/v/{name}", **way) for name, way in ways.items()]
    tries = "cd /v; for w in *; do touch $w/x 2>/dev/null && echo $w; "
    tries += "touch $w/inner/x 2>/dev/null && echo $w inner; done; true"
    own = [mount("v", "/v", mountPropagation="Bidirectional")]
    first = container("first", "mkdir /v/inner && mount -t tmpfs t /v/inner", own, **PRIVILEGED)
    volumes = [{"name": "v", "emptyDir": {}}]
    return pod("deep", [container("c", tries, mounts)], volumes, initContainers=[first])


def spreading(folder: str) -> list[Obj]:
    """Who sees a mount that is made after it started, and whose mounts others see."""
    volumes = [{"name": "v", "hostPath": {"path": f"{folder}/spread"}}]
    wait = "while ! [ -e /v/go ]; do sleep 0.05; done; ls /v/made /v/told; true"
    out = []
    for mode in ("None", "HostToContainer"):
        mounts = [mount("v", "/v", mountPropagation=mode)]
        out.append(pod(f"spread-{mode}".lower(), [container("c", wait, mounts)], volumes))
    mounts = [mount("v", "/v", mountPropagation="Bidirectional")]
    # Only once the others run: what is mounted before they start they see in any case.
    act = "while ! [ -e /v/start ]; do sleep 0.05; done; mount -t tmpfs t /v/told && "
    act += "touch /v/told/here /v/mounted && exec sleep 1000"
    out.append(pod("spread-bidirectional", [container("c", act, mounts, **PRIVILEGED)], volumes))
    return out


def devices() -> list[Obj]:
    """A block volume of class standard, one pod that writes to it and one that may not."""
    spec = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
            "resources": {"requests": {"storage": "8Mi"}}}  # fmt: skip
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "block"},
             "spec": spec}  # fmt: skip
    out = [claim]
    write = "printf kept | dd of=/dev/disk conv=notrunc 2>/dev/null; blockdev --getsize64 /dev/disk"
    read = "head -c 4 /dev/disk; (echo; printf lost > /dev/disk) 2>/dev/null || echo refused"
    for name, script in (("block-writer", write), ("block-reader", read)):
        own = container("c", script, [])
        own["volumeDevices"] = [{"name": "v", "devicePath": "/dev/disk"}]
        used = {"claimName": "block", "readOnly": name == "block-reader"}
        out.append(pod(name, [own], [{"name": "v", "persistentVolumeClaim": used}]))
    return out


def restored() -> list[Obj]:
    """A snapshot of the block volume, and a pod with a volume that begins with it."""
    group = "snapshot.storage.k8s.io"
    taken = {"apiVersion": f"{group}/v1", "kind": "VolumeSnapshot", "metadata": {"name": "taken"},
             "spec": {"source": {"persistentVolumeClaimName": "block"}}}  # fmt: skip
    claim, reader, _ = devices()
    claim["metadata"]["name"] = "restored"
    source = {"apiGroup": group, "kind": "VolumeSnapshot", "name": "taken"}
    claim["spec"]["dataSource"] = source
    reader["metadata"]["name"] = "restored"
    reader["spec"]["containers"][0]["command"] = ["head", "-c", "4", "/dev/disk"]
    reader["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = "restored"
    return [taken, claim, reader]


def sharing(server: str, path: str, nodes: list[str]) -> list[Obj]:
    """A share of a file server behind a claim and in a pod itself, on the nodes given in turn."""
    size = {"storage": "1Gi"}
    kept = {"namespace": "default", "name": "nfs"}
    volume = {
        "capacity": size, "accessModes": ["ReadWriteMany"], "storageClassName": "",
        "nfs": {"server": server, "path": path}, "claimRef": kept,
    }  # fmt: skip
    claim = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": "nfs",
             "resources": {"requests": size}}  # fmt: skip
    out = [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "nfs"},
         "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "nfs"},
         "spec": claim},
    ]  # fmt: skip
    sources = {
        "nfs-claim": {"persistentVolumeClaim": {"claimName": "nfs"}},
        "nfs-inline": {"nfs": volume["nfs"]},
        "nfs-reader": {"nfs": volume["nfs"] | {"readOnly": True}},
    }
    for index, (name, source) in enumerate(sources.items()):
        own = container("c", "exec sleep 1000", [mount("v", "/v")])
        chosen = nodes[index % len(nodes)]
        out.append(pod(name, [own], [{"name": "v", **source}], nodeName=chosen))
    return out


def driver(name: str, repository: str, python: str) -> list[Obj]:
    """A CSI driver as a pod, which runs the tests' own from the host's files; its CSIDriver, a
    volume behind a claim, and a pod with that and an inline volume."""
    kubelet = "/var/lib/kubelet"
    mounts = [
        mount("host", "/host"),
        mount("kubelet", f"/host{kubelet}", mountPropagation="Bidirectional"),
    ]
    own = container("d", "", mounts, env=[{"name": "PYTHONPATH", "value": repository}])
    own["command"] = ["chroot", "/host", python, "-m", "tests.kit.csidriver", name,
                      f"{kubelet}/plugins/{name}", kubelet, "n1"]  # fmt: skip
    own |= PRIVILEGED
    volumes = [{"name": "host", "hostPath": {"path": "/"}},
               {"name": "kubelet", "hostPath": {"path": kubelet}}]  # fmt: skip
    modes = {"attachRequired": False, "volumeLifecycleModes": ["Persistent", "Ephemeral"],
             "fsGroupPolicy": "File"}  # fmt: skip
    size = {"storage": "1Gi"}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    disk = {"csi": {"driver": name, "volumeHandle": "disk"}, "capacity": size,
            "claimRef": {"namespace": "default", "name": "disk"}}  # fmt: skip
    user = container(
        "c", "echo kept >> /v/disk/log; echo gone > /v/inline/log; exec sleep 1000",
        [mount("disk", "/v/disk"), mount("disk", "/v/part", subPath="part"),
         mount("inline", "/v/inline")],
    )  # fmt: skip
    used = [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}},
            {"name": "inline", "csi": {"driver": name}}]  # fmt: skip
    return [
        pod("driver", [own], volumes),
        {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name},
         "spec": modes},
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"},
         "spec": spec | disk},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"},
         "spec": spec | {"volumeName": "disk", "resources": {"requests": size}}},
        pod("csi", [user], used, securityContext={"fsGroup": 1234}),
    ]  # fmt: skip
