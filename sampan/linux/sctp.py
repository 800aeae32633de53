"""Whether the kernel has SCTP. Found out by reading alone: to open a socket would load the module,
which clusters do not do before a pod asks for it (KEP-614)."""

from __future__ import annotations

import gzip
import os
import re
from functools import cache
from pathlib import Path

PROTOCOLS = Path("/proc/net/protocols")
MODULES = Path("/lib/modules")
CONFIG = Path("/proc/config.gz")
_MODULE = re.compile(rb"/sctp\.ko\b")
_WORD = re.compile(rb"^SCTP", re.MULTILINE)
_BUILT = re.compile(rb"^CONFIG_IP_SCTP=", re.MULTILINE)


@cache
def has_sctp() -> bool:
    """True also where nothing says that it has not. Read once: kernels do not change."""
    return is_there(PROTOCOLS, MODULES / os.uname().release, CONFIG)


def is_there(protocols: Path, modules: Path, config: Path) -> bool:
    """The protocol is loaded, or is a module that can be; or else the kernel's own configuration
    does not deny it."""
    if _WORD.search(_read(protocols)):
        return True
    lists = _read(modules / "modules.dep") + _read(modules / "modules.builtin")
    if lists:
        return bool(_MODULE.search(lists))
    said = _read(config)
    return not said or bool(_BUILT.search(gzip.decompress(said)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
