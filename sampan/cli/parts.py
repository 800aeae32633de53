"""`sampan server` and `sampan agent`: the parts of a cluster by themselves, in the foreground."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sampan.paths import ClusterPaths

from .options import NAME, Data, Name, fail, paths_of


def become(part: str, name: str, data: Path | None, *more: str) -> NoReturn:
    """Turn this process into a part, where no other of the kind runs."""
    paths = paths_of(name, data)
    _locks = hold(paths, part)  # open until this process is the part, and then its own
    command = [sys.executable, "-P", "-m", "sampan", part, "--name", name]
    command += ["--data", str(paths.data)]
    os.execv(sys.executable, [*command, *more])


def hold(paths: ClusterPaths, part: str) -> list[int]:
    """Have the cluster's name on this machine for a part, until this process ends: a second would
    fight the first for its containers, rules and data. A supervisor has the whole cluster, so the
    parts share its lock with one another, and each has one of its own. The locks, open; ends the
    command when they cannot be had."""
    paths.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    locks: list[int] = []
    for file, kind in (("lock", fcntl.LOCK_SH), (f"{part}.lock", fcntl.LOCK_EX)):
        # Inherited by the part: it holds for as long as that lives.
        lock = os.open(paths.run / file, os.O_RDWR | os.O_CREAT, 0o600)
        locks.append(lock)
        os.set_inheritable(lock, True)
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            fail(f"this machine runs cluster {paths.name} already; give another --name")
    paths.keep_place()
    return locks


def server(
    name: Name = NAME,
    data: Data = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the API listens [127.0.0.1:6443].")
    ] = "",
) -> None:
    """Run the control plane alone: API server, controllers, scheduler."""
    become("control", name, data, *(["--listen", listen] if listen else []))


def agent(
    server: Annotated[str, typer.Option(help="The API server, e.g. https://10.0.0.1:6443.")],
    token: Annotated[str, typer.Option(help="A token the server knows (DATA/agent.token there).")],
    node_name: Annotated[str, typer.Option(help="Name of the node [the host's].")] = "",
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Run a node agent alone, against a server elsewhere."""
    more = ["--server", server, "--token", token]
    become("node-process", name, data, *more, *(["--node-name", node_name] if node_name else []))
