"""Addresses as text."""

from __future__ import annotations


def join_host_port(host: str, port: int | str) -> str:
    """As Go's net.JoinHostPort writes it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
