"""`sampan kubectl ...`: kubectl, talking to this cluster."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Annotated

import typer

from .options import NAME, Data, Name, fail, not_running, paths_of

SETTINGS = {
    # Everything that is not our own option is kubectl's, its help too.
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}


def kubectl(
    words: Annotated[list[str] | None, typer.Argument(metavar="ARGS...")] = None,
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Run kubectl with a cluster's kubeconfig; --name and --data come first."""
    program = find()
    if program is None:
        fail("kubectl is not installed; get it with: pip install 'sampan[kubectl]'")
    paths = paths_of(name, data)
    if not paths.kubeconfig.exists():
        fail(not_running(paths))
    environment = os.environ | {"KUBECONFIG": str(paths.kubeconfig)}
    os.execve(program, ["kubectl", *(words or ())], environment)


def find() -> Path | None:
    """The packaged kubectl, else the one on the PATH."""
    packaged = Path(sysconfig.get_path("scripts")) / "kubectl"
    if os.access(packaged, os.X_OK):
        return packaged
    found = shutil.which("kubectl")
    return Path(found) if found else None
