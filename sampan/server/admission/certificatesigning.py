"""CertificateSigning: who sets a request's certificate must be allowed to sign for its signer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.fields import quote

from ..exchange import Write
from .certificateapproval import GROUP, may_act_for, stamp
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server


def validate(server: Server, write: Write) -> None:
    old, new = write.old or {}, write.obj
    if _signed(old) == _signed(new):
        return
    signer = (old.get("spec") or {}).get("signerName") or ""
    if not may_act_for(server, write.attributes.user, "sign", signer):
        raise refuse(write, f"user not permitted to sign requests with signerName {quote(signer)}")


def _signed(request: Object) -> tuple[object, object]:
    """What only a signer changes."""
    status = request.get("status") or {}
    return status.get("certificate"), status.get("conditions") or []


PLUGIN = Plugin(
    "CertificateSigning",
    {(GROUP, "certificatesigningrequests/status"): ("UPDATE",)},
    stamp,
    validate=validate,
)
