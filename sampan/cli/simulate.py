"""`sampan simulate`: nodes that run nothing but behave, beside the cluster's own."""

from __future__ import annotations

import os
import signal
from typing import Annotated, Any

import typer

from sampan.paths import ClusterPaths

from .options import NAME, Data, Name, fail, make_data, not_running, paths_of
from .progress import Progress
from .supervisor import Status, connect, status_of, statuses, url_of

REGISTER_S = 300.0
"""By when thousands of nodes are there, on a slow machine too."""


def simulate(
    text: Annotated[str, typer.Argument(metavar="nodes=N[,name=value...]")],
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Simulate nodes in a cluster: they register, renew their Leases, and report pods as running,
    with nothing behind it. nodes=0 takes them away.

    start, ready, stop: how long pods take (0.2s, or 0.1s-2s to vary). fail, pull: share of the pods
    that crash, or whose image cannot be pulled (1%). lost: share of the nodes that fall silent.
    zones, cpu, memory, pods: how the nodes are. lease: life of their Leases (40s). name: what their
    names begin with (sim).
    """
    paths = paths_of(name, data)
    link = connect(paths)
    if link is None and not paths.config.exists():
        # It would leave a folder, and a later cluster of the name nodes that nobody expects.
        fail(not_running(paths, " --simulate ..."))
    keep_simulation(paths, text)
    if link is None:
        print(f"{name} is stopped; it will simulate this when it is started")
        return
    status = status_of(link)
    url_of(status)
    await_simulation(link, status, signal_it=True)
    print(f"{name} simulates {text}")


def keep_simulation(paths: ClusterPaths, text: str) -> None:
    """Write down what is to be simulated, now and at each start; ends the command if it is none."""
    # Only who simulates pays for reading it.
    from sampan.api.simulation import parse

    try:
        parse(text)
    except ValueError as error:
        fail(f"--simulate: {error}")
    make_data(paths)
    temporary = paths.simulation.with_name(f".{paths.simulation.name}")
    temporary.write_text(text + "\n")
    temporary.rename(paths.simulation)


def await_simulation(link: Any, status: Status, *, signal_it: bool) -> None:
    """Until the nodes are there. `signal_it`: the control process has not read the text yet."""
    control = status["parts"]["control"]
    if signal_it:
        before = control.get("simulations", 0)
        os.kill(control["pid"], signal.SIGHUP)
    else:
        before = 0
    with Progress("registering the simulated nodes"):
        try:
            if not signal_it and control.get("simulations", 0):
                return
            for now in statuses(link, REGISTER_S):
                if now["parts"]["control"].get("simulations", 0) > before:
                    return
        except TimeoutError:
            fail("the simulated nodes are not there yet; see 'sampan logs'")
