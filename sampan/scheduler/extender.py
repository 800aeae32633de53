"""One scheduler extender: a program of somebody's, asked over HTTP (kube-scheduler's extender/v1).

Names of fields in answers are read without regard to case, as Go's decoder does: programs in the
field answer `nodenames` or `failedNodes`. Bounds: an answer is at most `ANSWER_BYTES`, and takes at
most the extender's httpTimeout. aiohttp and ssl are loaded by the first extender there is.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.kinds.core.podspec.resources import is_extended
from sampan.api.times import TimeError, parse_duration_s
from sampan.wire.address import connect_words, join_host_port

if TYPE_CHECKING:
    import ssl

    import aiohttp

TIMEOUT_S = 5.0
"""Upstream's DefaultExtenderTimeout."""
ANSWER_BYTES = 64 << 20
"""The Nodes of a cluster of 5000, sent back whole, are some 50 MB."""
CONNECTIONS = 8
"""One pod is decided at a time; bindings may go on beside it."""
FIELDS = frozenset({
    "urlPrefix", "filterVerb", "preemptVerb", "prioritizeVerb", "weight", "bindVerb",
    "enableHTTPS", "tlsConfig", "httpTimeout", "nodeCacheCapable", "managedResources",
    "ignorable",
})  # fmt: skip


class ExtenderError(OSError):
    """It could not be asked, or said nothing that can be used: handled as an API server's fault."""


class Settings(Struct, frozen=True):
    """An item of KubeSchedulerConfiguration.extenders."""

    url: str
    filter_verb: str = ""
    preempt_verb: str = ""
    prioritize_verb: str = ""
    bind_verb: str = ""
    weight: int = 0
    timeout_s: float = TIMEOUT_S
    caches_nodes: bool = False
    """Knows the nodes itself: names are enough."""
    resources: frozenset[str] = frozenset()
    """Only pods that ask for one of these are its concern; empty for every pod."""
    ignored: frozenset[str] = frozenset()
    """Of those, what it alone counts."""
    ignorable: bool = False
    """Pods are placed without it when it does not answer."""
    tls: tuple[tuple[str, Any], ...] | None = None
    """tlsConfig; None without HTTPS."""


def settings_of(configuration: Object) -> list[Settings]:
    """Those that must answer first, as upstream. Raises ValueError, in upstream's words."""
    found: list[Settings] = []
    taken: set[str] = set()
    for number, item in enumerate(configuration.get("extenders") or ()):
        found.append(_settings(item, f"extenders[{number}]", taken))
    binders = sum(1 for item in found if item.bind_verb)
    if binders > 1:
        raise ValueError(
            f'extenders: Invalid value: "found {binders} extenders implementing bind": '
            "only one extender can implement bind"
        )
    return sorted(found, key=lambda item: item.ignorable)


def _settings(item: Object, path: str, taken: set[str]) -> Settings:
    unknown = sorted(item.keys() - FIELDS)
    if unknown:
        raise ValueError(f'unknown field "{path}.{unknown[0]}"')
    weight = item.get("weight") or 0
    if item.get("prioritizeVerb") and weight <= 0:
        raise ValueError(
            f"{path}.weight: Invalid value: {weight}: must have a positive weight applied to it"
        )
    managed = item.get("managedResources") or ()
    for index, one in enumerate(managed):
        where, name = f"{path}.managedResources[{index}].name", one.get("name") or ""
        if not is_extended(name):
            raise ValueError(
                f'{where}: Invalid value: "{name}": is an invalid extended resource name'
            )
        if name in taken:
            raise ValueError(
                f'{where}: Invalid value: "{name}": duplicate extender managed resource name'
            )
        taken.add(name)
    url = str(item.get("urlPrefix") or "")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f'{path}.urlPrefix: Invalid value: "{url}": must be an http or https URL')
    try:
        timeout_s = parse_duration_s(item.get("httpTimeout") or "0s")
    except (TimeError, TypeError) as error:
        raise ValueError(f"{path}.httpTimeout: {error}") from None
    tls = item.get("tlsConfig") or {}
    return Settings(
        url.rstrip("/"),
        item.get("filterVerb") or "",
        item.get("preemptVerb") or "",
        item.get("prioritizeVerb") or "",
        item.get("bindVerb") or "",
        weight,
        timeout_s or TIMEOUT_S,
        bool(item.get("nodeCacheCapable")),
        frozenset(one["name"] for one in managed),
        frozenset(one["name"] for one in managed if one.get("ignoredByScheduler")),
        bool(item.get("ignorable")),
        tuple(sorted(tls.items())) if url.startswith("https:") else None,
    )


class Extender:
    """Raises ValueError for certificates that are none."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        tls = dict(settings.tls or ())
        self._ssl = None if settings.tls is None else _context(tls)
        self._name: str | None = tls.get("serverName") or None
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def concerns(self, pod: Object) -> bool:
        """Does the pod ask for something that the extender looks after?"""
        wanted, spec = self.settings.resources, pod["spec"]
        return not wanted or any(
            not wanted.isdisjoint((item.get("resources") or {}).get(kind) or ())
            for item in (*spec["containers"], *(spec.get("initContainers") or ()))
            for kind in ("requests", "limits")
        )

    async def filter_nodes(
        self, pod: Object, nodes: Sequence[Object]
    ) -> tuple[list[str], dict[str, str], dict[str, str]]:
        """(names that fit, why others do not, why others never will whoever leaves)."""
        answer = await self._ask(self.settings.filter_verb, self._about(pod, nodes))
        if why := field_of(answer, "Error"):
            raise ExtenderError(str(why))
        names = field_of(answer, "NodeNames") if self.settings.caches_nodes else None
        if names is None:
            listed = field_of(field_of(answer, "Nodes") or {}, "items") or ()
            names = [item["metadata"]["name"] for item in listed]
        known = {node["metadata"]["name"] for node in nodes}
        strange = next((name for name in names if name not in known), None)
        if strange is not None:
            raise ExtenderError(
                f'extender "{self.settings.url}" claims a filtered node "{strange}" '
                "which is not found in the input node list"
            )
        failed = dict(field_of(answer, "FailedNodes") or {})
        return [*names], failed, dict(field_of(answer, "FailedAndUnresolvableNodes") or {})

    async def prioritize(self, pod: Object, nodes: Sequence[Object]) -> dict[str, int]:
        """Its scores by node, 0 to 10 by convention."""
        answer = await self._ask(self.settings.prioritize_verb, self._about(pod, nodes))
        try:
            return {
                field_of(item, "Host"): int(field_of(item, "Score") or 0) for item in answer or ()
            }
        except (TypeError, ValueError, AttributeError) as error:
            raise ExtenderError(f"json: {error}") from None

    async def preempt(self, pod: Object, victims: Mapping[str, Object]) -> dict[str, Object]:
        """`victims` are the Victims by node, pods and all; what is left of them, as MetaVictims."""
        asked: Object = {"Pod": pod, "NodeNameToVictims": None, "NodeNameToMetaVictims": None}
        if self.settings.caches_nodes:
            asked["NodeNameToMetaVictims"] = {
                name: {**item, "Pods": [{"UID": one["metadata"]["uid"]} for one in item["Pods"]]}
                for name, item in victims.items()
            }
        else:
            asked["NodeNameToVictims"] = victims
        answer = await self._ask(self.settings.preempt_verb, asked)
        return dict(field_of(answer, "NodeNameToMetaVictims") or {})

    async def bind(self, pod: Object, node: str) -> None:
        meta = pod["metadata"]
        asked = {
            "PodName": meta["name"],
            "PodNamespace": meta["namespace"],
            "PodUID": meta["uid"],
            "Node": node,
        }
        if why := field_of(await self._ask(self.settings.bind_verb, asked), "Error"):
            raise ExtenderError(str(why))

    def _about(self, pod: Object, nodes: Sequence[Object]) -> Object:
        if self.settings.caches_nodes:
            names = [node["metadata"]["name"] for node in nodes]
            return {"Pod": pod, "Nodes": None, "NodeNames": names}
        return {"Pod": pod, "Nodes": {"metadata": {}, "items": [*nodes]}, "NodeNames": None}

    async def _ask(self, verb: str, body: Object) -> Any:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=self.settings.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        url = f"{self.settings.url}/{verb}"
        sent = orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                url,
                data=sent,
                headers=headers,
                ssl=self._ssl or True,
                server_hostname=self._name,
                allow_redirects=False,
            ) as answer:
                status = answer.status
                said = await _read(answer.content) if status == 200 else b""
        except TimeoutError:
            raise ExtenderError(f'Post "{url}": context deadline exceeded') from None
        except aiohttp.ClientConnectorError as error:
            where, words = join_host_port(error.host, error.port or 0), connect_words(error)
            raise ExtenderError(f'Post "{url}": dial tcp {where}: connect: {words}') from None
        except (aiohttp.ClientError, OSError) as error:
            raise ExtenderError(f'Post "{url}": {error}') from None
        if status != 200:
            raise ExtenderError(f"failed {verb} with extender at URL {url}, code {status}")
        try:
            return orjson.loads(said)
        except orjson.JSONDecodeError as error:
            raise ExtenderError(f"json: {error}") from None


async def _read(content: asyncio.StreamReader | aiohttp.StreamReader) -> bytes:
    parts, size = [], 0
    while part := await content.read(1 << 20):
        size += len(part)
        if size > ANSWER_BYTES:
            raise ExtenderError(f"an answer of more than {ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def field_of(answer: Any, name: str) -> Any:
    """A field by its name, however its letters are written."""
    if not isinstance(answer, dict):
        if answer is None:
            return None
        raise ExtenderError(f"json: cannot unmarshal {type(answer).__name__} into an object")
    if name in answer:
        return answer[name]
    folded = name.casefold()
    return next((value for key, value in answer.items() if key.casefold() == folded), None)


def _context(tls: Mapping[str, Any]) -> ssl.SSLContext:
    """As upstream, without a CA nothing is verified. Data go before files."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        ca = _pem(tls, "ca")
        if tls.get("insecure") or not ca:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        cert, key = _pem(tls, "cert"), _pem(tls, "key")
        if cert and key:
            # OpenSSL reads a chain from files alone.
            with NamedTemporaryFile() as pair:
                pair.write(cert + b"\n" + key)
                pair.flush()
                context.load_cert_chain(pair.name)
    except (OSError, ValueError) as error:
        raise ValueError(f"extenders: tlsConfig: {error}") from None
    return context


def _pem(tls: Mapping[str, Any], name: str) -> bytes:
    if data := tls.get(f"{name}Data"):
        return base64.b64decode(data)
    path = tls.get(f"{name}File")
    return Path(path).read_bytes() if path else b""
