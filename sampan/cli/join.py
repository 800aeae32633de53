"""`sampan join`: make this machine a node of a cluster that runs elsewhere."""

from __future__ import annotations

import json
import os
import time
from typing import Annotated

import typer

from sampan.wire.address import join_host_port

from .options import NAME, Data, Name, fail, paths_of
from .supervisor import connect, start
from .up import check_machine, wait_ready

TOKEN_HELP = "As 'sampan token create' prints it."


def join(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The API server.")],
    token: Annotated[str, typer.Option("--token", help=TOKEN_HELP)],
    ca_hash: Annotated[str, typer.Option("--discovery-token-ca-cert-hash", help=TOKEN_HELP)],
    node_name: Annotated[str, typer.Option(help="Name of the node [the host's].")] = "",
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Join a cluster as a node, and wait until it is ready; 'sampan down' ends that, and a later
    'sampan up' begins it again."""
    began = time.monotonic()
    paths = paths_of(name, data)
    host, _, port = server.removeprefix("https://").rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        fail(f"{server!r}: use HOST:PORT, as 'sampan token create' prints it")
    check_machine()
    if connect(paths) is not None:
        fail(f"this machine runs cluster {name} already; stop it first with: sampan down")
    if paths.config.exists():
        what = "is a node of a cluster" if paths.order.exists() else "holds a cluster"
        fail(
            f"{paths.data} {what} already; start it with 'sampan up', or remove it first with"
            " 'sampan down --purge'"
        )
    order = {
        "server": f"https://{join_host_port(host.strip('[]'), port)}",
        "token": token,
        "ca_hash": ca_hash,
        "node_name": node_name,
    }
    paths.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(paths.order, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(order, file)
    try:
        status = wait_ready(
            start(paths, "", foreground=False), f"node of {server}", str(paths.data)
        )
    except BaseException:
        # Not joined: the next try starts from nothing, and the token does not lie about.
        if not paths.config.exists():
            paths.order.unlink(missing_ok=True)
        raise
    node = status["parts"]["node"].get("node", "")
    print(f"node {node} has joined {server} after {time.monotonic() - began:.2f} s")
