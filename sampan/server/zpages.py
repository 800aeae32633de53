"""/statusz and /flagz: what the server is and how it was set up, for people (KEP-4827, KEP-4828).

Text, whose separators differ from answer to answer as upstream's do, so that nobody parses it; or,
for those who ask for `as=Statusz` and `as=Flagz`, JSON. Imported when first asked for.
"""

from __future__ import annotations

import platform
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from orjson import dumps

from sampan.api.errors import NotAcceptable, Object
from sampan.api.times import format_time
from sampan.version import KUBERNETES_VERSION

from .exchange import Request, Response

if TYPE_CHECKING:
    from .app import Server

COMPONENT: Final = "kube-apiserver"
GROUP: Final = "config.k8s.io"
VERSIONS = ("v1alpha1", "v1beta1")
SEPARATORS = (":", ": ", "=", " ")
WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility "
    "guarantees and is for debugging purposes only."
)
PATHS = ("/configz", "/debug", "/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz",
         "/version")  # fmt: skip
TEXT, JSON = "text/plain; charset=utf-8", "application/json"


def answer(server: Server, request: Request) -> Response:
    """Raises NotAcceptable."""
    statusz = request.path == "/statusz"
    version = _version_of(request.headers.get("accept", ""), "Statusz" if statusz else "Flagz")
    if statusz:
        return _status(server, version)
    return _flags(server, version)


def _version_of(accept: str, kind: str) -> str:
    """The version of the JSON that is wanted, "" for text. Raises NotAcceptable."""
    for clause in accept.split(","):
        media, *params = (part.strip() for part in clause.split(";"))
        values = dict(param.partition("=")[::2] for param in params)
        if values.get("as") == kind and values.get("g") == GROUP and media == JSON:
            if values.get("v") in VERSIONS:
                return values["v"]
        elif media in ("", "*/*", "text/*", "text/plain") and "as" not in values:
            return ""
    raise NotAcceptable("only the following media types are accepted: application/json, text/plain")


def _status(server: Server, version: str) -> Response:
    began_s = server.began_s
    up_s = max(0, int(server.clock.now() - began_s))
    python = f"python{platform.python_version()}"
    if version:
        return _json("Statusz", version, {
            "startTime": format_time(began_s),
            "uptimeSeconds": up_s,
            "goVersion": python,
            "binaryVersion": KUBERNETES_VERSION,
            "emulationVersion": KUBERNETES_VERSION.rpartition(".")[0],
            "paths": list(PATHS),
        })  # fmt: skip
    mark = random.choice(SEPARATORS)
    began = datetime.fromtimestamp(began_s, UTC)
    hours, rest = divmod(up_s, 3600)
    up = f"{hours} hr {rest // 60:02} min {rest % 60:02} sec"
    return _text("statusz", [
        f"Started{mark}{began:%a %b %e %H:%M:%S} UTC {began:%Y}",
        f"Up{mark}{up}",
        f"Go version{mark}{python}",
        f"Binary version{mark}{KUBERNETES_VERSION}",
        f"Emulation version{mark}{KUBERNETES_VERSION.rpartition('.')[0]}",
        f"Paths{mark}{' '.join(PATHS)}",
    ])  # fmt: skip


def _flags(server: Server, version: str) -> Response:
    """How the server is set up, under the names of upstream's flags. No secret is among them."""
    config = server.config
    first, last = config.node_ports
    flags = {
        "advertise-address": config.advertise_host,
        "authorization-mode": "Node,RBAC",
        "client-ca-file": str(config.ca_cert),
        "secure-port": str(config.advertise_port),
        "service-account-issuer": config.issuer,
        "service-cluster-ip-range": config.service_cidr,
        "service-node-port-range": f"{first}-{last}",
    }
    if version:
        return _json("Flagz", version, {"flags": flags})
    mark = random.choice(SEPARATORS)
    return _text("flagz", [f"{name}{mark}{value}" for name, value in flags.items()])


def _json(kind: str, version: str, content: Object) -> Response:
    head = {"kind": kind, "apiVersion": f"{GROUP}/{version}", "metadata": {"name": COMPONENT}}
    return Response(200, dumps(head | content), content_type=JSON)


def _text(page: str, lines: list[str]) -> Response:
    body = "\n".join(["", f"{COMPONENT} {page}", WARNING, "", *lines, ""])
    return Response(200, body.encode(), content_type=TEXT)
