"""The claims that pods of this node use: prepared by their drivers before the pod's containers are
made, and given back when the last pod that uses one has ended.

What was asked of whom is kept in a file per claim (DATA/dra_claims/UID.json) before it is asked, so
that an agent that starts again, and one that finds a pod gone, gives back what was taken.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct, field

from sampan.api.errors import Object, StatusError
from sampan.api.resources import api_resource
from sampan.client.api import Client

from ..providers import DEVICE_CLAIMS
from .plugins import PluginError, Plugins

PREPARE, UNPREPARE = "NodePrepareResources", "NodeUnprepareResources"


class Prepared(Struct):
    """A device as its driver has prepared it."""

    requests: list[str]
    """Of the claim; none stands for all of them."""
    cdi_ids: list[str]


class Record(Struct):
    """One claim on this node."""

    uid: str
    namespace: str
    name: str
    drivers: list[str]
    pods: list[str] = field(default_factory=list)
    """The uids of those that use it."""
    devices: list[Prepared] = field(default_factory=list)
    prepared: bool = False

    @property
    def asked(self) -> Mapping[str, str]:
        """As drivers are told of it."""
        return {"namespace": self.namespace, "uid": self.uid, "name": self.name}


class DeviceClaims:
    """One node's."""

    def __init__(self, data: Path, client: Client, plugins: Plugins) -> None:
        self._folder = data / DEVICE_CLAIMS
        self._client = client
        self._plugins = plugins
        self._records = {record.uid: record for record in self._read()}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Claims are shared: of those that use one, one after the other. A driver that hangs keeps
        nobody else waiting."""

    def _read(self) -> Iterable[Record]:
        for path in self._folder.glob("*.json"):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Record)
            except (OSError, ValueError):
                continue

    async def prepare(self, pod: Object) -> None:
        """Raises PluginError, StatusError, OSError; may be called again."""
        claims = [await self._claim(pod, name, made) for name, made in names_of(pod)]
        for claim in claims:
            for driver in _drivers(claim):
                self._plugins.get(driver)
        async with self._alone(claim["metadata"]["uid"] for claim in claims):
            todo = [self._use(claim, pod["metadata"]["uid"]) for claim in claims]
            await self._ask(PREPARE, [it for it in todo if not it.prepared])

    @asynccontextmanager
    async def _alone(self, uids: Iterable[str]) -> AsyncIterator[None]:
        """One after the other for each of these claims; in order, so that nobody waits for ever."""
        async with AsyncExitStack() as stack:
            for uid in sorted({*uids}):
                await stack.enter_async_context(self._turns.setdefault(uid, asyncio.Lock()))
            yield

    async def _claim(self, pod: Object, name: str, made: bool) -> Object:
        """The claim, if the pod may use it."""
        meta = pod["metadata"]
        try:
            kind = api_resource("resourceclaims", "resource.k8s.io")
            claim = await self._client.get(kind, name, meta["namespace"])
        except (StatusError, OSError) as error:
            raise PluginError(f"fetch ResourceClaim {name}: {error}") from error
        where, about = f"{meta['namespace']}/{name}", f"{meta['namespace']}/{meta['name']}"
        owners = claim["metadata"].get("ownerReferences") or ()
        if made and not any(item["uid"] == meta["uid"] for item in owners):
            text = f"ResourceClaim {where} was not created for pod {about} (pod is not owner)"
            raise PluginError(text)
        status = claim.get("status") or {}
        if not any(item["uid"] == meta["uid"] for item in status.get("reservedFor") or ()):
            uid = claim["metadata"]["uid"]
            text = f"pod {meta['name']} ({meta['uid']}) is not allowed to use ResourceClaim"
            raise PluginError(f"{text} {name} ({uid})")
        if not status.get("allocation"):
            raise PluginError(f"ResourceClaim {name}: not allocated")
        found: Object = claim
        return found

    def _use(self, claim: Object, user: str) -> Record:
        """The claim's record, with the pod in it, written."""
        meta = claim["metadata"]
        record = self._records.get(meta["uid"])
        if record is None:
            for old in self._records.values():
                if (old.namespace, old.name) == (meta["namespace"], meta["name"]):
                    raise PluginError(
                        f"old ResourceClaim with same name {old.name} and different UID {old.uid} "
                        "still exists (previous pod force-deleted?!)"
                    )
            record = Record(meta["uid"], meta["namespace"], meta["name"], _drivers(claim))
            self._records[record.uid] = record
        if user not in record.pods:
            record.pods.append(user)
            self._write(record)
        return record

    async def _ask(self, call: str, records: Sequence[Record]) -> None:
        found: dict[str, list[Prepared]] = {record.uid: [] for record in records}
        for name in sorted({driver for record in records for driver in record.drivers}):
            mine = [record for record in records if name in record.drivers]
            answers = await self._plugins.get(name).ask(call, [record.asked for record in mine])
            for uid, answer in answers.items():
                found[uid] += [
                    Prepared(item["request_names"], item["cdi_device_ids"])
                    for item in answer.get("devices") or ()
                ]
        if call == PREPARE:
            for record in records:
                record.devices, record.prepared = found[record.uid], True
                self._write(record)

    def cdi_ids(self, pod: Object, container: Mapping[str, Any]) -> list[str]:
        """The CDI devices a container gets: of the claims it names, and of their requests."""
        made = dict(_named(pod))
        asked = [
            (made.get(wanted["name"]), wanted.get("request") or "")
            for wanted in (container.get("resources") or {}).get("claims") or ()
        ]
        special = _special(pod)
        asked += [
            (special["resourceClaimName"], item["requestName"])
            for item in special.get("requestMappings") or ()
            if item["containerName"] == container["name"]
        ]
        return [
            cdi
            for name, request in asked
            for record in self._records.values()
            if (record.namespace, record.name) == (pod["metadata"]["namespace"], name)
            for cdi in _ids(record, request)
        ]

    def uses(self, uid: str) -> bool:
        """Does a pod use claims here?"""
        return any(uid in record.pods for record in self._records.values())

    async def release(self, uid: str) -> None:
        """The pod's containers have ended: what nobody else uses is given back. Raises
        PluginError; may be called again."""
        async with self._alone(r.uid for r in self._records.values() if uid in r.pods):
            mine = [record for record in self._records.values() if uid in record.pods]
            last = [record for record in mine if record.pods == [uid]]
            await self._ask(UNPREPARE, last)
            for record in mine:
                if record in last:
                    del self._records[record.uid]
                    self._path(record).unlink(missing_ok=True)
                else:
                    record.pods.remove(uid)
                    self._write(record)

    def _path(self, record: Record) -> Path:
        return self._folder / f"{record.uid}.json"

    def _write(self, record: Record) -> None:
        self._folder.mkdir(mode=0o750, exist_ok=True)
        path = self._path(record)
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(record))
        os.replace(new, path)


def names_of(pod: Object) -> list[tuple[str, bool]]:
    """The pod's claims: (name, was it made for the pod from a template?). Raises PluginError."""
    out = []
    made = dict(_named(pod))
    for item in pod["spec"].get("resourceClaims") or ():
        template = bool(item.get("resourceClaimTemplateName"))
        if item["name"] not in made:
            meta = pod["metadata"]
            raise PluginError(
                f'pod "{meta["namespace"]}/{meta["name"]}": ResourceClaim not created yet'
            )
        if made[item["name"]]:
            out.append((made[item["name"]], template))
    special = _special(pod)
    if special:
        out.append((special["resourceClaimName"], False))
    return out


def _special(pod: Object) -> Object:
    """What the pod's status says of the claim for its extended resources (KEP-5004)."""
    return (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}


def _named(pod: Object) -> Iterable[tuple[str, str]]:
    """(the pod's own name of a claim, the claim's name; "" if none is needed)."""
    status = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    known = {item["name"]: item.get("resourceClaimName") or "" for item in status}
    for item in pod["spec"].get("resourceClaims") or ():
        if item.get("resourceClaimName"):
            yield item["name"], item["resourceClaimName"]
        elif item["name"] in known:
            yield item["name"], known[item["name"]]


def _drivers(claim: Object) -> list[str]:
    results = claim["status"]["allocation"].get("devices", {}).get("results") or ()
    return sorted({item["driver"] for item in results})


def _ids(record: Record, request: str) -> list[str]:
    """Of all its devices, or those of one request: a subrequest "gpu/large" is of "gpu"."""
    return [
        cdi
        for device in record.devices
        if not request
        or not device.requests
        or any(name.partition("/")[0] == request for name in device.requests)
        for cdi in device.cdi_ids
    ]
