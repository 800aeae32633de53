"""CertificateSubjectRestriction: nobody asks for a client certificate of system:masters."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.principals import MASTERS
from sampan.wire.certificate import read_requested
from sampan.wire.pem import read_request

from ..exchange import Write
from .certificateapproval import GROUP
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

SIGNER = "kubernetes.io/kube-apiserver-client"


def validate(server: Server, write: Write) -> None:
    spec: Object = write.obj.get("spec") or {}
    if spec.get("signerName") != SIGNER:
        return
    try:
        _, organizations = read_requested(decode_request(spec.get("request") or ""))
    except ValueError as error:
        raise refuse(write, f"failed to parse CSR: {error}") from None
    if MASTERS in organizations:
        raise refuse(write, f"use of {SIGNER} signer with {MASTERS} group is not allowed")


def decode_request(request: str) -> bytes:
    """The DER bytes in a request: base64 of PEM. Raises ValueError."""
    return read_request(base64.b64decode(request))


PLUGIN = Plugin(
    "CertificateSubjectRestriction",
    {(GROUP, "certificatesigningrequests"): ("CREATE",)},
    validate=validate,
)
