"""ClusterTrustBundleAttest: who writes a signer's trust bundle must be allowed to speak for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.fields import quote

from ..exchange import Write
from .certificateapproval import GROUP, may_act_for
from .plugin import Plugin, refuse
from .rbacescalation import changes_owners_alone

if TYPE_CHECKING:
    from ..app import Server


def validate(server: Server, write: Write) -> None:
    signer = (write.obj.get("spec") or {}).get("signerName") or ""
    if not signer or changes_owners_alone(write):
        return
    if not may_act_for(server, write.attributes.user, "attest", signer):
        raise refuse(write, f"user not permitted to attest for signerName {quote(signer)}")


PLUGIN = Plugin(
    "ClusterTrustBundleAttest",
    {(GROUP, "clustertrustbundles"): ("CREATE", "UPDATE")},
    validate=validate,
)
