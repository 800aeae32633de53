"""`sampan server` and `sampan agent`: the parts of a cluster by themselves, in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from .options import NAME, Data, Name, paths_of


def become(part: str, name: str, data: Path | None, *more: str) -> NoReturn:
    """Turn this process into a part."""
    paths = paths_of(name, data)
    command = [sys.executable, "-m", "sampan", part, "--name", name, "--data", str(paths.data)]
    os.execv(sys.executable, [*command, *more])


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
