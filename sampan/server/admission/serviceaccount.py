"""ServiceAccount: every pod runs as one, and finds its token, CA and namespace in a volume."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Object
from sampan.api.fields import quote
from sampan.api.resources import resource

from ..authz.nodegraph import MIRROR, names_of
from ..exchange import Write
from .mountablesecrets import is_limited, refused_later, refused_secret
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

ACCOUNTS = resource("serviceaccounts")
DEFAULT = "default"
VOLUME_PREFIX = "kube-api-access-"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA = "kube-root-ca.crt"
# An hour and a bit, as upstream: clients that renew hourly see a token of the next hour.
TOKEN_LIFETIME_S = 3607
# Upstream's alphabet for generated names: no vowels and look-alikes, so no words.
NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX = 5


def mutate(server: Server, write: Write) -> Awaitable[None] | None:
    if write.attributes.subresource:
        return None
    spec = write.obj.setdefault("spec", {})
    if _is_mirror(write):
        _check_mirror(write)
        return None
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT
    account = server.find_object(ACCOUNTS, write.attributes.namespace, name)
    if account is None:
        if name == DEFAULT:
            return _mutate_later(server, write)
        raise _missing(write, name)
    _run_as(write, account)
    return None


async def _mutate_later(server: Server, write: Write) -> None:
    """A controller makes the default account of a new namespace: wait for it."""
    account = await server.admission.lookups.default_account(write.attributes.namespace)
    if account is None:
        raise _missing(write, DEFAULT)
    _run_as(write, account)


def _missing(write: Write, name: str) -> Exception:
    return refuse(
        write,
        f"error looking up service account {write.attributes.namespace}/{name}:"
        f" serviceaccount {quote(name)} not found",
    )


def _run_as(write: Write, account: Object) -> None:
    spec = write.obj["spec"]
    spec["serviceAccountName"] = spec["serviceAccount"] = account["metadata"]["name"]
    if _automounts(spec, account):
        _mount_token(spec, account["metadata"].get("uid") or "")
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(item) for item in account["imagePullSecrets"]]
    _check_secrets(write, account)


def validate(server: Server, write: Write) -> None:
    """What webhooks made of the pod, and ephemeral containers."""
    if _is_mirror(write):
        if not write.attributes.subresource:
            _check_mirror(write)
        return
    name = (write.obj.get("spec") or {}).get("serviceAccountName") or ""
    if not name:
        where = f"{write.attributes.namespace}/{write.obj['metadata'].get('name', '')}"
        raise refuse(write, f"no service account specified for pod {where}")
    account = server.find_object(ACCOUNTS, write.attributes.namespace, name)
    if account is None:
        raise _missing(write, name)
    _check_secrets(write, account)


def _is_mirror(write: Write) -> bool:
    return MIRROR in (write.obj["metadata"].get("annotations") or {})


def _check_mirror(write: Write) -> None:
    spec = write.obj["spec"]
    if spec.get("serviceAccountName"):
        raise refuse(write, "a mirror pod may not reference service accounts")
    if any(plural == "secrets" and name for plural, name in names_of(write.obj)):
        raise refuse(write, "a mirror pod may not reference secrets")
    for volume in spec.get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                why = "a mirror pod may not use service account token volume projections"
                raise refuse(write, why)


def _check_secrets(write: Write, account: Object) -> None:
    if is_limited(account):
        check = refused_later if write.attributes.subresource else refused_secret
        why = check(write.obj["spec"], account)
        if why:
            raise refuse(write, why)


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


PLUGIN = Plugin(
    "ServiceAccount",
    {("", "pods"): ("CREATE",), ("", "pods/ephemeralcontainers"): ("UPDATE",)},
    mutate,
    validate,
)
