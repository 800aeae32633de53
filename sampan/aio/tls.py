"""TLS on a listening socket whose certificate and client CAs may change while it listens.

A listener is given `ServingContext.context` once. Every handshake is moved to the newest files by
OpenSSL's servername hook, which runs for clients that send no name too. Connections that exist go
on as they are. Sessions are not resumed: a resumed one would remember a client certificate whose CA
is no longer trusted, and Kubernetes clients keep connections instead.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

log = logging.getLogger("sampan.tls")


class ServingFiles(Struct, frozen=True):
    """PEM files of a server. Client CAs that do not exist (yet) are passed over."""

    cert: Path
    key: Path
    client_cas: Sequence[Path]


class ServingContext:
    """Made with files that must be good: raises OSError or ssl.SSLError."""

    def __init__(self, files: ServingFiles) -> None:
        self.files = files
        self._current = _load(files)
        self.context = _load(files)
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Read the files anew. Raises OSError or ssl.SSLError, and then nothing has changed."""
        self._current = _load(self.files)

    def _choose(self, link: Any, name: str | None, context: ssl.SSLContext) -> None:
        link.context = self._current


def _load(files: ServingFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.cert, files.key)
    for path in files.client_cas:
        if path.exists():
            try:
                context.load_verify_locations(path)
            except OSError as error:
                raise OSError(f"{path}: {error.strerror or error}") from error
    # Whether a client may be without a certificate is for the application to say.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context
