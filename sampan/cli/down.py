"""`sampan down`: stop everything a cluster runs; with --purge, remove its data too."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from sampan.client import kubeconfig as files
from sampan.paths import ClusterPaths

from .options import NAME, Data, Name, context_of, fail, owner_of, paths_of, strangers
from .progress import Progress
from .supervisor import connect, statuses


def down(
    name: Name = NAME,
    data: Data = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove the cluster's data as well.")
    ] = False,
) -> None:
    """Stop a cluster: its processes, containers, network. Its data stays."""
    paths = paths_of(name, data)
    if (owner := owner_of(paths)) not in ("", name):
        fail(f"{paths.data} is of cluster {owner}; stop that with: sampan down --name {owner}")
    link = connect(paths)
    if link is not None and (status := next(statuses(link), None)):
        where = Path(status["data"])
        if data is not None and where != paths.data:
            fail(f"cluster {name} runs with its data in {where}, not in {paths.data}")
        # It runs, so its name says which it is.
        paths = paths_of(name, where)
    with Progress(f"stopping cluster {name}"):
        if link is not None:
            with contextlib.suppress(BrokenPipeError):
                link.sendall(b"down\n")
            for _ in statuses(link):
                pass
        if link is None or paths.run.exists():
            # Whatever a crash left behind, or a supervisor that was killed while it stopped.
            wait_for_supervisor(paths)
            command = [sys.executable, "-P", "-m", "sampan", "cleanup", "--name", name]
            if subprocess.run([*command, "--data", str(paths.data)], check=False).returncode:
                fail(f"not all that cluster {name} runs could be stopped; its data stays")
    if purge:
        remove(paths)
        try:
            files.remove(files.user_path(), context_of(name))
        except (files.KubeconfigError, OSError) as error:
            fail(f"the cluster is gone, but its context is not: {error}")
        print(f"cluster {name} is gone, with its data")
    elif paths.data.exists():
        print(f"cluster {name} is stopped; its data is in {paths.data}")
    else:
        print(f"there is no cluster {name} in {paths.data}; nothing was running")


def wait_for_supervisor(paths: ClusterPaths) -> None:
    """Wait for one that is ending already and listens no more: it holds its lock until it has."""
    with contextlib.suppress(FileNotFoundError), open(paths.run / "lock", "rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def remove(paths: ClusterPaths) -> None:
    """Remove the data folder, if it is one of ours."""
    if not paths.data.exists():
        return
    known = (paths.config, paths.logs, paths.pki)
    if not any(path.exists() for path in known):
        fail(f"{paths.data} does not look like a cluster's data; nothing was removed")
    if what := strangers(paths):
        # Whoever named a folder in use, by a slip or a link, shall not lose it.
        fail(f"{paths.data} {what}; nothing was removed. Move that away, then do it again")
    shutil.rmtree(paths.data)
