"""Addresses as text, and why one cannot be connected to."""

from __future__ import annotations

import os
import re


def join_host_port(host: str, port: int | str) -> str:
    """As Go's net.JoinHostPort writes it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_NUMBER = re.compile(r"\[Errno (\d+)\]")


def connect_words(error: OSError) -> str:
    """Go's words for a connect that failed, e.g. "connection refused". A name that stands for
    several addresses (localhost, often) fails for the first reason there is, as in Go."""
    code = error.errno
    if code is None and (found := _NUMBER.search(str(error))):
        code = int(found[1])
    return os.strerror(code).lower() if code and code > 0 else str(error)
