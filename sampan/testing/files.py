"""Keys and certificates of test clusters: made once per process, in a folder that goes with it."""

from __future__ import annotations

import atexit
import secrets
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from sampan.daemon import pki
from sampan.daemon.config import ClusterConfig

POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/12"
ADVERTISED = "10.244.0.1"


@cache
def folder() -> Path:
    """A private folder for this process."""
    made = Path(mkdtemp(prefix="sampan-test-"))
    atexit.register(rmtree, made, ignore_errors=True)
    return made


@cache
def certificates() -> Path:
    """A folder with the CA, the server's certificate and the other keys a server needs."""
    made = folder() / "pki"
    config = ClusterConfig("test", 0, "node-0", POD_CIDR, SERVICE_CIDR, "127.0.0.1", 0, "test")
    pki.ensure(made, config)
    return made


@cache
def token() -> str:
    """The bearer token of the clusters' administrator."""
    return secrets.token_urlsafe(24)
