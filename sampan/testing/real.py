"""A whole cluster with real containers for one test: `sampan up` under a name of its own.

Needs what `sampan up` needs (root, crun, conmon, nft); it is purged when the test is over.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Self

from sampan.client import kubeconfig
from sampan.client.http import HttpTransport

from .objects import Objects
from .threaded import call

UP_S = 60.0
DOWN_S = 60.0


class RealClusterError(RuntimeError):
    """`sampan up` did not succeed; the text is what it said."""


class RealCluster:
    """A cluster in processes of its own. `objects` works as on the others, in blocking calls."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self.data = folder / "data"
        access = kubeconfig.read(self.kubeconfig)
        self.url = access.url
        self._transport = call(_open(access))
        self._objects = Objects(self._transport)

    @classmethod
    def start(cls) -> Self:
        """Boot one; it is ready when this returns. Raises RealClusterError."""
        name = f"test-{secrets.token_hex(3)}"
        folder = Path(mkdtemp(prefix="sampan-real-"))
        try:
            listen = f"127.0.0.1:{_free_port()}"
            _sampan("up", name, folder / "data", UP_S, "--no-merge", "--listen", listen)
            return cls(name, folder)
        except BaseException:
            _purge(name, folder)
            raise

    def close(self) -> None:
        """Stop and remove it."""
        call(self._transport.close())
        _purge(self.name, self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kubeconfig(self) -> Path:
        return self.data / "admin.kubeconfig"

    @property
    def token(self) -> str:
        return (self.data / "admin.token").read_text().strip()

    def __getattr__(self, name: str) -> Any:
        # The operations of `Objects`, each as a call that blocks.
        work = getattr(self._objects, name)

        def blocking(*arguments: Any, **named: Any) -> Any:
            return call(work(*arguments, **named), named.get("timeout_s", 0) + UP_S)

        return blocking


async def _open(access: kubeconfig.Access) -> HttpTransport:
    return HttpTransport.from_access(access)


def _free_port() -> int:
    """One of the kernel's choice: the usual ones may be taken by the user's own clusters."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _purge(name: str, folder: Path) -> None:
    try:
        _sampan("down", name, folder / "data", DOWN_S, "--purge")
    finally:
        rmtree(folder, ignore_errors=True)


def _sampan(command: str, name: str, data: Path, timeout_s: float, *more: str) -> None:
    line = [sys.executable, "-P", "-m", "sampan", command, "--name", name]
    line += ["--data", str(data), *more]
    done = subprocess.run(line, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise RealClusterError(f"sampan {command}: {(done.stderr or done.stdout).strip()}")
