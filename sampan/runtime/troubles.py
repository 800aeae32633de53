"""What keeps a registry from being reached, in the words of Go's HTTP client: they are what people
search for, and what they find answers to. Loaded when something went wrong."""

from __future__ import annotations

import socket
import ssl

import aiohttp

from sampan.wire.address import connect_words, join_host_port

PLAIN = "http: server gave HTTP response to HTTPS client"
UNKNOWN_AUTHORITY = (
    "tls: failed to verify certificate: x509: certificate signed by unknown authority"
)
SPEAKS_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
LATE = "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"


def text_of(error: Exception, verb: str, url: str) -> str:
    """As of a *url.Error: `Head "URL": dial tcp ...`."""
    return f'{verb} "{url}": {_cause(error)}'


def _cause(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return UNKNOWN_AUTHORITY
        case aiohttp.ClientConnectorSSLError(os_error=ssl.SSLError(reason=str() as reason)):
            return PLAIN if reason in SPEAKS_NO_TLS else f"tls: {reason.lower().replace('_', ' ')}"
        case aiohttp.ClientConnectorError(os_error=socket.gaierror()):
            return f"dial tcp: lookup {error.host}: no such host"
        case aiohttp.ClientConnectorError():
            where, why = join_host_port(error.host, str(error.port)), connect_words(error.os_error)
            return f"dial tcp {where}: connect: {why}"
        case aiohttp.ServerDisconnectedError():
            return "EOF"
        case TimeoutError():
            return LATE
    return str(error) or type(error).__name__
