"""A real NFS server for tests: nfs-ganesha on an address of this machine, without a kernel server;
rpcbind tells clients of NFSv3 its ports."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PORT, PORT_OF_MAPPER = 2049, 111
START_S = 20.0
CONFIG = """
NFS_CORE_PARAM {{
    Protocols = 3,4; Bind_addr = {address}; NFS_Port = {port}; MNT_Port = 20048;
    Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
}}
NFSv4 {{ Only_Numeric_Owners = true; RecoveryRoot = "{folder}/recovery"; Graceless = true; }}
EXPORT {{
    Export_Id = 1; Path = {folder}/export; Pseudo = /data; Protocols = 3,4; Transports = TCP;
    Access_Type = RW; Squash = No_Root_Squash; SecType = sys; FSAL {{ Name = VFS; }}
}}
"""


@contextmanager
def nfs_server(folder: Path, address: str) -> Iterator[Path]:
    """Serves `folder`/export, which is given."""
    (folder / "export").mkdir()
    (folder / "recovery").mkdir()
    config = folder / "ganesha.conf"
    config.write_text(CONFIG.format(folder=folder, address=address, port=PORT))
    started = []
    try:
        if not _listens(address, PORT_OF_MAPPER):
            started.append(_start(folder, "rpcbind", "-f", "-w", "-h", address))
            _wait(address, PORT_OF_MAPPER, folder)
        files = ("-f", str(config), "-L", str(folder / "log"), "-p", str(folder / "pid"))
        started.append(_start(folder, "ganesha.nfsd", "-F", *files))
        _wait(address, PORT, folder)
        yield folder / "export"
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()


def _start(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    with (folder / "out").open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)


def _listens(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False


def _wait(address: str, port: int, folder: Path) -> None:
    end = time.monotonic() + START_S
    while not _listens(address, port):
        said = (folder / "log").read_text() if (folder / "log").exists() else ""
        assert time.monotonic() < end, said
        time.sleep(0.05)
