"""Where a request is passed on to."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from msgspec import Struct, field


class Target(Struct, frozen=True):
    host: str
    """An address or name to connect to."""
    port: int
    path: str
    """The decoded path the backend gets; "" is asked for with a redirect to "/" first."""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    """Whose certificate is expected; only with `tls`."""
    prefix: str = ""
    """What the client's path has before the backend's: links in answers get it too. With "" links
    are left alone."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Set in addition, replacing what the client sent under these (lower-case) names."""
    own_host: bool = False
    """Send the target's name as Host, not the client's."""

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
