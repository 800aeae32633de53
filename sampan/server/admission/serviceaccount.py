"""ServiceAccount: every pod runs as one, and finds its token, CA and namespace in a volume."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Object
from sampan.api.fields import quote
from sampan.api.resources import resource

from ..exchange import Write
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

DEFAULT = "default"
MIRROR = "kubernetes.io/config.mirror"
VOLUME_PREFIX = "kube-api-access-"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA = "kube-root-ca.crt"
# An hour and a bit, as upstream: clients that renew hourly see a token of the next hour.
TOKEN_LIFETIME_S = 3607
# Upstream's alphabet for generated names: no vowels and look-alikes, so no words.
NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX = 5


def mutate(server: Server, write: Write) -> None:
    pod = write.obj
    spec = pod.setdefault("spec", {})
    if MIRROR in (pod["metadata"].get("annotations") or {}):
        if spec.get("serviceAccountName"):
            raise refuse(write, "a mirror pod may not reference service accounts")
        return
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT
    namespace = write.attributes.namespace
    account = server.find_object(resource("serviceaccounts"), namespace, name)
    if account is None:
        raise refuse(
            write,
            f"error looking up service account {namespace}/{name}:"
            f" serviceaccount {quote(name)} not found",
        )
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    if _automounts(spec, account):
        _mount_token(spec, account["metadata"].get("uid") or "")
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(item) for item in account["imagePullSecrets"]]


def _automounts(spec: Object, account: Object) -> bool:
    for source in (spec, account):
        wanted = source.get("automountServiceAccountToken")
        if wanted is not None:
            return bool(wanted)
    return True


def volume_name(uid: str) -> str:
    """The name of the volume for an account: five letters as upstream's, but always the same, so
    that pods of one template have one shape."""
    rest = zlib.crc32(uid.encode())
    out = VOLUME_PREFIX
    for _ in range(SUFFIX):
        rest, letter = divmod(rest, len(NAME_LETTERS))
        out += NAME_LETTERS[letter]
    return out


def _mount_token(spec: Object, uid: str) -> None:
    """Mount the token volume into every container that has nothing at its path."""
    volumes: list[Any] = spec.get("volumes") or []
    existing = next(
        (item["name"] for item in volumes if str(item.get("name")).startswith(VOLUME_PREFIX)), ""
    )
    name = existing or volume_name(uid)
    mounted = False
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or ():
            mounts = container.get("volumeMounts") or []
            if any(item.get("mountPath") == MOUNT_PATH for item in mounts):
                continue
            mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
            container["volumeMounts"] = [*mounts, mount]
            mounted = True
    if mounted and not existing:
        spec["volumes"] = [*volumes, _volume(name)]


def _volume(name: str) -> Object:
    ca = {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFETIME_S, "path": "token"}},
        {"configMap": ca},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}


PLUGIN = Plugin("ServiceAccount", {("", "pods"): ("CREATE",)}, mutate)
