"""CertificateSubjectRestriction: nobody asks for a client certificate of system:masters."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.wire.certificate import Malformed, read_requested

from ..authz.authorizer import MASTERS
from ..exchange import Write
from .certificateapproval import GROUP
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

SIGNER = "kubernetes.io/kube-apiserver-client"
ARMOUR = (b"-----BEGIN CERTIFICATE REQUEST-----", b"-----END CERTIFICATE REQUEST-----")


def validate(server: Server, write: Write) -> None:
    spec: Object = write.obj.get("spec") or {}
    if spec.get("signerName") != SIGNER:
        return
    try:
        _, organizations = read_requested(decode_request(spec.get("request") or ""))
    except (Malformed, binascii.Error) as error:
        raise refuse(write, f"failed to parse CSR: {error}") from None
    if MASTERS in organizations:
        raise refuse(write, f"use of {SIGNER} signer with {MASTERS} group is not allowed")


def decode_request(request: str) -> bytes:
    """The DER bytes in a request: base64 of PEM."""
    pem = base64.b64decode(request)
    begin, end = (pem.find(mark) for mark in ARMOUR)
    if begin < 0 or end < begin:
        raise Malformed("no certificate request in it")
    return base64.b64decode(pem[begin + len(ARMOUR[0]) : end])


PLUGIN = Plugin(
    "CertificateSubjectRestriction",
    {(GROUP, "certificatesigningrequests"): ("CREATE",)},
    validate=validate,
)
