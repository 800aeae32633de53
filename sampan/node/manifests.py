"""Manifests in a folder to static pods: pure, but for reading the folder.

pkg/kubelet/config: a static pod is named after its node, and its uid is a digest of what the file
says, so that a file that changes makes another pod. Bounds: `FILE_MAX` bytes a file, `FILES_MAX`
files.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sampan.api.errors import BadRequest, Object
from sampan.api.names import label_problems, subdomain_problems
from sampan.api.resources import resource
from sampan.wire import json

from .objects import references

log = logging.getLogger("sampan.node.manifests")

HASH, SOURCE, SEEN, MIRROR = (
    f"kubernetes.io/config.{name}" for name in ("hash", "source", "seen", "mirror")
)
FILE_MAX = 10 << 20
"""Upstream's maxConfigLength."""
FILES_MAX = 1000
SUFFIXES = (".yaml", ".yml", ".json")
NEEDED = {
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "azureFile": "secrets (via azureFile volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
}
"""What kinds of volumes and their sources need of the API."""
ALL_FAULTS = {"operator": "Exists", "effect": "NoExecute"}


class Unusable(Exception):
    """A file that is no pod; says why."""


def read_folder(folder: Path, node: str, seen: str) -> dict[str, Object]:
    """The pods by uid. What cannot be used is logged and left out."""
    out: dict[str, Object] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        log.warning("static pods: %s", error)
        return {}
    for path in paths[:FILES_MAX]:
        if not path.is_file():
            continue
        try:
            if path.stat().st_size > FILE_MAX:
                raise Unusable(f"larger than {FILE_MAX} bytes")
            pod = static_pod(path.read_bytes(), str(path), node, seen)
        except (Unusable, OSError, ValueError) as error:
            log.error("static pods: %s: %s", path, error)
            continue
        out[pod["metadata"]["uid"]] = pod
    return out


def static_pod(body: bytes, source: str, node: str, seen: str) -> Object:
    """What a manifest stands for on this node. Raises Unusable and ValueError."""
    # Only who has static pods pays for the parsers.
    from sampan.api.decoding import decode
    from sampan.wire import yaml

    pod = yaml.loads(body)
    if not isinstance(pod, dict) or (pod.get("kind"), pod.get("apiVersion")) != ("Pod", "v1"):
        raise Unusable("not a Pod of v1")
    try:
        pod = decode(resource("pods").definition, pod).obj
    except BadRequest as error:
        raise Unusable(str(error)) from error
    meta = dict(pod.get("metadata") or {})
    if not meta.get("name") or not isinstance(pod.get("spec"), dict):
        raise Unusable("without a name or a spec")
    told = json.dumps({"metadata": meta, "spec": pod["spec"]})
    # The digest tells files apart, it guards nothing.
    uid = hashlib.md5(f"host:{node}file:{source}".encode() + told, usedforsecurity=False)
    meta["uid"] = meta.get("uid") or uid.hexdigest()
    meta["name"] = f"{meta['name']}-{node.lower()}"
    meta.setdefault("namespace", "default")
    meta["annotations"] = (meta.get("annotations") or {}) | {
        HASH: meta["uid"], SOURCE: "file", SEEN: seen,
    }  # fmt: skip
    spec = copy.deepcopy(pod["spec"]) | {"nodeName": node}
    spec["tolerations"] = [*(spec.get("tolerations") or ()), ALL_FAULTS]
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    _check_names(meta)
    rules = resource("pods").rules
    rules.default(made)
    made["status"] = {"phase": "Pending"}
    causes = rules.validate(made, None)
    if causes:
        raise Unusable("; ".join(f"{cause.path}: {cause.text}" for cause in causes))
    named = api_object(made)
    if named:
        raise Unusable(f"static pods may not reference {named}")
    return made


def _check_names(meta: Mapping[str, Any]) -> None:
    """They become names of folders. Raises Unusable."""
    for field, check in (("name", subdomain_problems), ("namespace", label_problems)):
        for problem in check(str(meta[field])):
            raise Unusable(f"metadata.{field}: {problem}")
    if "/" in str(meta["uid"]) or str(meta["uid"]) in (".", ".."):
        raise Unusable("metadata.uid: must not be a path")


def api_object(pod: Object) -> str:
    """What a pod needs of the API, which may not be there when its node begins; "" for nothing.
    In the words of HasAPIObjectReference."""
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    named = {plural for plural, _, _ in references(pod)}
    for plural in ("secrets", "configmaps"):
        if plural in named:
            return plural
    if spec.get("resourceClaims"):
        return "resourceclaims"
    for volume in spec.get("volumes") or ():
        sources = (volume, *((volume.get("projected") or {}).get("sources") or ()))
        for source in sources:
            found = next((NEEDED[kind] for kind in source if kind in NEEDED), "")
            if found:
                return found
    return ""


def mirror_of(pod: Object, node_uid: str) -> Object:
    """The object by which the API shows a static pod."""
    meta = pod["metadata"]
    owner = {
        "apiVersion": "v1", "kind": "Node", "name": pod["spec"]["nodeName"], "uid": node_uid,
        "controller": True,
    }  # fmt: skip
    shown = {key: meta[key] for key in ("name", "namespace", "labels") if meta.get(key)}
    shown["annotations"] = meta["annotations"] | {MIRROR: meta["annotations"][HASH]}
    shown["ownerReferences"] = [owner]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": shown, "spec": pod["spec"]}


def mirrored(pod: Mapping[str, Any]) -> str:
    """The uid of the static pod that this one mirrors; "" for a pod of its own."""
    return str((pod["metadata"].get("annotations") or {}).get(MIRROR, ""))


def is_static(pod: Mapping[str, Any]) -> bool:
    """Whether it comes from a file rather than from the API."""
    notes = pod["metadata"].get("annotations") or {}
    return notes.get(SOURCE) == "file" and MIRROR not in notes and notes.get(HASH) is not None
