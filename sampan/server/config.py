"""What the daemon tells the API server at start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from .exchange import User


class ServerConfig(Struct, frozen=True):
    """Paths are of PEM files, all of which exist before the server starts."""

    ca_cert: Path
    ca_key: Path
    service_account_key: Path
    """Private EC key (P-256) that signs service-account tokens (ES256)."""
    node_client_cert: Path
    """Client certificate the server shows to node agents (logs, exec)."""
    node_client_key: Path
    advertise_host: str
    """Address pods reach the server at; the endpoint of the `kubernetes` service."""
    advertise_port: int
    service_cidr: str = "10.96.0.0/12"
    node_ports: tuple[int, int] = (30000, 32767)
    """First and last port a NodePort may have."""
    issuer: str = "https://kubernetes.default.svc.cluster.local"
    tokens: Mapping[str, User] = field(default_factory=dict)
    """Static bearer tokens."""
    client_cas: Sequence[Path] = ()
    """More CAs whose client certificates are believed; a file need not exist."""
    quota_limited: Sequence[Mapping[str, object]] = ()
    """limitedResources of upstream's ResourceQuotaConfiguration: used only under a quota."""
    folder: Path | None = None
    """The administrator's files (docs/identity.md): audit policy, authentication."""
    audit_log: Path | None = None
    """Where the audit log is written, if there is a policy for it."""
    front_proxy_ca: Path | None = None
    """CA that extension API servers believe when it signs who passes requests on."""
    front_proxy_cert: Path | None = None
    """Client certificate the server shows to extension API servers."""
    front_proxy_key: Path | None = None
