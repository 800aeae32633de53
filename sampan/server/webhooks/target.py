"""Where a call goes: a URL or a service, and whom to believe there."""

from __future__ import annotations

import base64
import binascii
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.resources import resource

if TYPE_CHECKING:
    from ..app import Server

DEFAULT_PORT = 443
SERVICE_LABEL = "kubernetes.io/service-name"
HEADLESS = ("", "None")


class CallFailed(Exception):
    """A call that brought no usable answer; the text is what upstream's client would say.

    `code` is the HTTP status of an answer that was an error, else 0; `asks_to_wait` says that the
    answer had Retry-After.
    """

    def __init__(self, message: str, code: int = 0, *, asks_to_wait: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.asks_to_wait = asks_to_wait


class ServiceReference(NamedTuple):
    """A service of this cluster and the port of it that is meant."""

    namespace: str
    name: str
    port: int = DEFAULT_PORT


class Address(NamedTuple):
    """One place to dial."""

    host: str
    port: int


class Target(Struct, frozen=True):
    """Whom to call. With a `service` the URL's host is only a name: dialled is the service."""

    url: str
    """https (or http, for what is configured by file) with host, port and path."""
    service: ServiceReference | None = None
    ca: bytes = b""
    """PEM bundle to believe; empty: the system's roots."""
    server_name: str = ""
    """Name the certificate must be for; empty: the URL's host."""
    client_cert: Path | None = None
    client_key: Path | None = None
    insecure: bool = False
    """Believe any certificate (insecureSkipTLSVerify)."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every call, e.g. credentials."""


def target_of(config: Object) -> Target:
    """The target of a WebhookClientConfig (admission, CRD conversion). Raises CallFailed."""
    ca = decode_bundle(config.get("caBundle") or "")
    service = config.get("service")
    if service is not None:
        reference = ServiceReference(
            service.get("namespace") or "",
            service.get("name") or "",
            service.get("port") or DEFAULT_PORT,
        )
        return service_target(reference, service.get("path") or "", ca)
    url = config.get("url") or ""
    if not url:
        raise CallFailed("webhook configuration must have either service or URL")
    return Target(url, ca=ca)


def service_target(reference: ServiceReference, path: str, ca: bytes) -> Target:
    """A target that is a service: its certificate must be for NAME.NAMESPACE.svc."""
    name = f"{reference.name}.{reference.namespace}.svc"
    rest = path if not path or path.startswith("/") else f"/{path}"
    return Target(f"https://{name}:{reference.port}{rest}", reference, ca, name)


def decode_bundle(text: str | bytes) -> bytes:
    """The PEM in a caBundle field, which is base64 in JSON."""
    try:
        return base64.b64decode(text)
    except binascii.Error as error:
        raise CallFailed(f"unable to load root certificates: {error}") from None


def addresses_of(server: Server, target: Target) -> Sequence[Address]:
    """Where to dial, best first. Raises CallFailed, in upstream's words."""
    if target.service is not None:
        return resolve_service(server, target.service)
    url = urlsplit(target.url)
    try:
        port = url.port
    except ValueError:
        port = None
    if not url.hostname:
        raise CallFailed(f"Unparsable URL: {target.url!r}")
    return (Address(url.hostname, port or (80 if url.scheme == "http" else DEFAULT_PORT)),)


def resolve_service(server: Server, reference: ServiceReference) -> Sequence[Address]:
    """A service's ready endpoints in random order; its cluster address when nobody wrote slices.

    This is upstream's endpoint routing (--enable-aggregator-routing): what has no endpoints fails
    at once, and a call spares the proxy's translation.
    """
    services = resource("services")
    found = server.find_object(services, reference.namespace, reference.name)
    if found is None:
        raise CallFailed(f'service "{reference.name}" not found')
    spec = found.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return (Address(spec.get("externalName") or "", reference.port),)
    port = next(
        (item for item in spec.get("ports") or () if item.get("port") == reference.port), None
    )
    if port is None:
        raise CallFailed(f'no service port {reference.port} found for service "{reference.name}"')
    slices = slices_of(server, reference)
    if not slices and spec.get("selector") is None and spec.get("clusterIP", "") not in HEADLESS:
        return (Address(spec["clusterIP"], reference.port),)
    ready = [
        Address(address, item["port"])
        for entry in slices
        for item in entry.get("ports") or ()
        if (item.get("name") or "") == (port.get("name") or "") and item.get("port")
        for endpoint in entry.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready", True) is not False
        for address in (endpoint.get("addresses") or ())[:1]
    ]
    if not ready:
        raise CallFailed(f'no endpoints available for service "{reference.name}"')
    random.shuffle(ready)
    return ready


def slices_of(server: Server, reference: ServiceReference) -> list[Object]:
    """The endpoint slices of a service."""
    slices = resource("endpointslices", "discovery.k8s.io")
    keys = server.cache.keys_with_label(slices, SERVICE_LABEL, reference.name)
    prefix = slices.prefix(reference.namespace)
    if keys is None:
        # No room for another index: look through the namespace.
        return [
            item
            for item in server.list_objects(slices, reference.namespace)
            if (item["metadata"].get("labels") or {}).get(SERVICE_LABEL) == reference.name
        ]
    records = [server.store.get(key) for key in sorted(keys) if key.startswith(prefix)]
    return [server.cache.decode(record) for record in records if record is not None]
