"""Where the API server listens, as a user says it."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(ip: str) -> bool:
    """Whether other machines never reach this address."""
    return ip.startswith("127.") or ip == "::1"


def address_of(listen: str) -> tuple[str, int]:
    """Where to listen: certificates, the network's rules and other machines need an address, which
    a name may lose. Raises ValueError."""
    host, port = parse_listen(listen)
    host = "127.0.0.1" if host == "localhost" else host
    try:
        return str(ip_address(host)), port
    except ValueError:
        raise ValueError(f"--listen {listen!r}: {host} is no address; use ADDRESS:PORT") from None


def parse_listen(listen: str) -> tuple[str, int]:
    """Host (maybe a name) and port of HOST:PORT. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"--listen {listen!r}: use HOST:PORT, for example 127.0.0.1:6443")
    return host.strip("[]") or "127.0.0.1", int(port)
