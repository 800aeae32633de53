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


def stamp(server: Server, write: Write) -> None:
    """Conditions get the times they lack, as the storage strategy does upstream; one that was
    there before keeps the time of its transition."""
    status = write.obj.get("status") or {}
    before = ((write.old or {}).get("status") or {}).get("conditions") or ()
    since = {
        (item.get("type"), item.get("status")): item["lastTransitionTime"]
        for item in before
        if item.get("lastTransitionTime")
    }
    for item in status.get("conditions") or ():
        now = server.timestamp()
        if not item.get("lastUpdateTime"):
            item["lastUpdateTime"] = now
        if not item.get("lastTransitionTime"):
            item["lastTransitionTime"] = since.get((item.get("type"), item.get("status")), now)


def may_act_for(server: Server, user: User, verb: str, signer: str) -> bool:
    """Whether `user` may `verb` for a signer, by its name or by its domain (`example.com/*`)."""
    names = (signer, f"{signer.partition('/')[0]}/*")
    target = (GROUP, "signers", "")
    return any(server.authorizer.allows(user, verb, target, "", name)[0] for name in names)


PLUGIN = Plugin(
    "CertificateApproval",
    {(GROUP, "certificatesigningrequests/approval"): ("UPDATE",)},
    stamp,
    validate=validate,
)
