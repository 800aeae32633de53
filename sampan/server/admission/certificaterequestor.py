"""CertificateRequestor: a signing request says who asks for it, in the server's words only.

Upstream does this in the resource's storage strategy (registry/certificates PrepareForCreate).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Object

from ..exchange import Write, user_info
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server


def mutate(server: Server, write: Write) -> None:
    spec: Object = dict(write.obj.get("spec") or {})
    for field in ("username", "uid", "groups", "extra"):
        spec.pop(field, None)
    write.obj["spec"] = spec | user_info(write.attributes.user)


PLUGIN = Plugin(
    "CertificateRequestor",
    {("certificates.k8s.io", "certificatesigningrequests"): ("CREATE",)},
    mutate,
)
