"""DenyServiceExternalIPs: nobody captures others' traffic with a service (CVE-2020-8554).

Upstream has this plugin off by default; here it is on, and `switches` can switch it off. Addresses
that are already there may stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exchange import Write
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server


def validate(server: Server, write: Write) -> None:
    wanted = (write.obj.get("spec") or {}).get("externalIPs") or ()
    have = ((write.old or {}).get("spec") or {}).get("externalIPs") or ()
    if any(address not in have for address in wanted):
        raise refuse(write, "Use of external IPs is denied by admission control.")


PLUGIN = Plugin(
    "DenyServiceExternalIPs", {("", "services"): ("CREATE", "UPDATE")}, validate=validate
)
