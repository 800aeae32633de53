"""CertificateApproval: who approves a signing request must be allowed to, for its signer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.fields import quote

from ..exchange import User, Write
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

GROUP = "certificates.k8s.io"


def validate(server: Server, write: Write) -> None:
    signer = ((write.old or {}).get("spec") or {}).get("signerName") or ""
    if not may_act_for(server, write.attributes.user, "approve", signer):
        raise refuse(
            write, f"user not permitted to approve requests with signerName {quote(signer)}"
        )


def may_act_for(server: Server, user: User, verb: str, signer: str) -> bool:
    """Whether `user` may `verb` for a signer, by its name or by its domain (`example.com/*`)."""
    names = (signer, f"{signer.partition('/')[0]}/*")
    target = (GROUP, "signers", "")
    return any(server.authorizer.allows(user, verb, target, "", name)[0] for name in names)


PLUGIN = Plugin(
    "CertificateApproval",
    {(GROUP, "certificatesigningrequests/approval"): ("UPDATE",)},
    validate=validate,
)
