"""What a kernel says of SCTP, without being asked for a socket."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sampan.linux.sctp import is_there

DEP = "kernel/net/sctp/{}.ko.xz: kernel/lib/libcrc32c.ko.xz\n"


@pytest.mark.parametrize(
    ("protocols", "modules", "config", "there"),
    [
        ("SCTP  1400 0\n", None, None, True),
        ("TCP  1400 0\n", DEP.format("sctp"), None, True),
        ("TCP  1400 0\n", DEP.format("sctp_diag"), None, False),
        ("TCP  1400 0\n", None, "CONFIG_IP_SCTP=m\n", True),
        ("TCP  1400 0\n", None, "CONFIG_NF_CT_PROTO_SCTP=y\n# CONFIG_IP_SCTP is not set\n", False),
        # Nothing says no.
        ("TCP  1400 0\n", None, None, True),
    ],
)
def test_sctp_is_found_by_reading(
    tmp_path: Path, protocols: str, modules: str | None, config: str | None, there: bool
) -> None:
    (tmp_path / "protocols").write_text(protocols)
    if modules:
        (tmp_path / "modules.dep").write_text(modules)
    if config:
        (tmp_path / "config.gz").write_bytes(gzip.compress(config.encode()))
    assert is_there(tmp_path / "protocols", tmp_path, tmp_path / "config.gz") is there
