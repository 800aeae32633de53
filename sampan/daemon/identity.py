"""The API server says that it is there, by a Lease of its own (KEP-1965, APIServerIdentity).

One task. Nobody but people and tools reads it, so it is written once the cluster has booted, and
then seldom: upstream renews every 10 s what holds for an hour.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import uuid

from sampan.aio.clock import Clock
from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.api.times import format_micro_time, parse_time
from sampan.client.api import Client

AFTER_BOOT_S = 2.0
RENEWED_S = 600.0
"""A write costs a sync of the disk, also in a cluster that does nothing."""
HELD_S = 3600
"""Upstream's IdentityLeaseDurationSeconds."""
NAMESPACE = "kube-system"
COMPONENT, HOSTNAME = "apiserver.kubernetes.io/identity", "kubernetes.io/hostname"
KUBE_APISERVER = "kube-apiserver"
LEASES = resource("leases", "coordination.k8s.io")


def identity_of(hostname: str) -> str:
    """As upstream names the server of a host: by a hash of both names, each after its length."""
    parts = (hostname.encode(), KUBE_APISERVER.encode())
    hashed = hashlib.sha256(b"".join(len(part).to_bytes(2, "big") + part for part in parts))
    return "apiserver-" + base64.b32encode(hashed.digest()[:16]).decode().rstrip("=").lower()


async def keep_identity(client: Client, clock: Clock, hostname: str) -> None:
    """Keep the Lease until cancelled; those of servers that are no more are removed."""
    holder = f"{identity_of(hostname)}_{uuid.uuid4()}"
    await clock.sleep(AFTER_BOOT_S)
    while True:
        # A server that cannot write has other worries; the next time will do.
        with contextlib.suppress(StatusError, OSError, asyncio.TimeoutError):
            await _renew(client, clock.now(), hostname, holder)
            await _collect(client, clock.now())
        await clock.sleep(RENEWED_S)


async def _renew(client: Client, now_s: float, hostname: str, holder: str) -> None:
    name = identity_of(hostname)
    meta: Object = {
        "name": name,
        "namespace": NAMESPACE,
        "labels": {COMPONENT: KUBE_APISERVER, HOSTNAME: hostname},
    }
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": HELD_S,
        "renewTime": format_micro_time(now_s),
    }
    try:
        change = {"metadata": {"labels": meta["labels"]}, "spec": spec}
        await client.patch(LEASES, name, change, NAMESPACE)
    except NotFound:
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
        await client.create(LEASES, {**body, "spec": spec}, NAMESPACE)


async def _collect(client: Client, now_s: float) -> None:
    """Remove what nobody has renewed in its time (a host's former name, say)."""
    selector = f"{COMPONENT}={KUBE_APISERVER}"
    found = await client.list(LEASES, NAMESPACE, {"labelSelector": selector})
    for item in found["items"]:
        spec = item.get("spec") or {}
        renewed, held_s = spec.get("renewTime"), spec.get("leaseDurationSeconds") or 0
        if renewed is None or parse_time(renewed) + held_s < now_s:
            with contextlib.suppress(NotFound):
                await client.delete(LEASES, item["metadata"]["name"], NAMESPACE)
