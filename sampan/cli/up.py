"""`sampan up`: boot a cluster, or find it running, and wait until it can be used."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from typing import Annotated, Any

import typer

from sampan.client import kubeconfig as files
from sampan.paths import ClusterPaths
from sampan.wire.address import join_host_port

from .doctor import firewall, look_at_chains
from .image import runtime_of
from .nodes import NODES_MAX, check_runtime, finish_partings, node_numbers, resize
from .options import NAME, Data, Json, Name, context_of, fail, listening, paths_of
from .progress import Progress
from .simulate import await_simulation, keep_simulation
from .supervisor import (
    START_TIMEOUT_S,
    Status,
    connect,
    failure,
    is_ready,
    start,
    statuses,
    wait_end,
)

RUNTIMES = ("crun", "containerd")
PROGRAMS = {"crun": "crun", "conmon": "conmon", "nft": "nftables"}
"""Program -> the Debian package that has it."""


def up(
    name: Name = NAME,
    data: Data = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the API listens [127.0.0.1:6443].")
    ] = "",
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            metavar="N",
            help="How many nodes on this machine [as it is; 1].",
            show_default=False,
        ),
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay until Ctrl-C, then stop the cluster.")
    ] = False,
    no_merge: Annotated[
        bool, typer.Option("--no-merge", help="Leave the user's kubeconfig alone.")
    ] = False,
    runtime: Annotated[
        str, typer.Option(metavar="crun|containerd", help="What runs containers [crun].")
    ] = "",
    simulate: Annotated[
        str,
        typer.Option(
            metavar="nodes=N,...", help="Nodes that run nothing but behave; see sampan simulate."
        ),
    ] = "",
    json_output: Json = False,
) -> None:
    """Start a cluster and wait until it is ready; a running one is left as it is."""
    began = time.monotonic()
    paths = paths_of(name, data)
    check_options(paths, nodes, runtime)
    if simulate:
        keep_simulation(paths, simulate)
    link = connect(paths)
    running = link is not None
    looking = None if running else look_at_chains()
    if link is None:
        link = start(paths, listen, nodes or 0, foreground=foreground, runtime=runtime)
    else:
        check_choices(paths, listen, runtime)
    try:
        status = wait_ready(link, f"cluster {name}", str(paths.data))
    except KeyboardInterrupt:
        if not foreground:
            command = f"sampan down --name {name}"
            print(f"sampan: cluster {name} goes on starting; stop it: {command}", file=sys.stderr)
        raise
    if "control" in status["parts"]:
        with contextlib.suppress(OSError):
            finish_partings(paths, status)
    if nodes and nodes != len(node_numbers(status)):
        status = resize(paths, link, status, nodes)
    if simulate:
        await_simulation(link, status, signal_it=running)
    seconds = time.monotonic() - began
    if "control" not in status["parts"]:
        print(f"node {status['parts']['node'].get('node', '')} is ready after {seconds:.2f} s")
        return
    if not no_merge:
        merge(paths)
    report(paths, status, seconds, running=running, merged=not no_merge, as_json=json_output)
    if looking is not None and (trouble := firewall(looking)):
        print(f"warning: {trouble}", file=sys.stderr)
    if foreground and not running:
        stay(link)


def check_options(paths: ClusterPaths, nodes: int | None, runtime: str) -> None:
    """What can be said before anything is started; ends the command."""
    if nodes is not None and not 1 <= nodes <= NODES_MAX:
        fail(f"--nodes {nodes}: use 1 to {NODES_MAX}")
    if runtime not in ("", *RUNTIMES):
        fail(f"--runtime {runtime!r}: use {' or '.join(RUNTIMES)}")
    wanted = runtime or runtime_of(paths)
    if nodes and nodes > 1:
        check_runtime(wanted)
    check_machine(wanted)


def check_machine(runtime: str = "crun") -> None:
    """Of this machine likewise."""
    if os.geteuid() != 0:
        fail("running containers needs root; run it again with sudo")
    further = {} if runtime == "crun" else {"containerd": "containerd"}
    for program, package in (PROGRAMS | further).items():
        if shutil.which(program) is None:
            fail(f"{program} is missing; install it with: apt-get install {package}")


def check_choices(paths: ClusterPaths, listen: str, runtime: str) -> None:
    """End the command where a cluster that runs was made, or started, otherwise than is asked."""
    if not paths.config.exists():
        # Another `up` is making it now.
        return
    host, _, port = listen.rpartition(":")
    wanted = (host.strip("[]").replace("localhost", "127.0.0.1") or "127.0.0.1", port)
    if listen and wanted != (now := tuple(map(str, listening(paths)))):
        text = f"cluster {paths.name} runs already, and listens on {join_host_port(*now)}"
        fail(f"{text}; to change that, stop it first with: sampan down --name {paths.name}")
    if runtime not in ("", used := runtime_of(paths)):
        fail(f"the cluster's containers are run by {used}; a new one can have {runtime}")


def wait_ready(link: Any, what: str, data: str) -> Status:
    """Follow the supervisor until every part is ready; ends the command when that cannot be."""
    now = ""
    with Progress(f"starting {what}") as progress:
        try:
            for status in statuses(link, START_TIMEOUT_S):
                if status.get("data", data) != data:
                    fail(f"{what} runs already, with its data in {status['data']}")
                if why := failure(status):
                    if status.get("stopping", True):
                        wait_end(link)
                    fail(why)
                if is_ready(status):
                    return status
                now = describe(status)
                if any(part["state"] != "stopped" for part in status["parts"].values()):
                    progress.say(now)
        except TimeoutError:
            fail(f"{what} is not ready after {START_TIMEOUT_S:.0f} s: {now}; see 'sampan logs'")
    fail(f"{what} ended while it was starting; see 'sampan logs'")


def merge(paths: ClusterPaths) -> None:
    """Make the cluster the current context of the user's kubeconfig."""
    try:
        files.merge(files.user_path(), context_of(paths.name), files.read(paths.kubeconfig))
        # Where the cluster puts the admin's next certificate when this one is renewed.
        (paths.data / "merged.path").write_text(f"{files.user_path().absolute()}\n")
    except (files.KubeconfigError, OSError) as error:
        fail(f"the cluster runs, but {error}; use KUBECONFIG={paths.kubeconfig} or --no-merge")


def describe(status: Status) -> str:
    return ", ".join(
        f"{name} {part['state']}" + (f" ({part['error']})" if part["error"] else "")
        for name, part in status["parts"].items()
    )


def report(
    paths: ClusterPaths,
    status: Status,
    seconds: float,
    *,
    running: bool,
    merged: bool,
    as_json: bool,
) -> None:
    kubeconfig = paths.kubeconfig
    context = context_of(paths.name)
    url = status["parts"]["control"].get("url", "")
    if as_json:
        facts = {
            "name": paths.name,
            "running": running,
            "seconds": round(seconds, 3),
            "ready_s": status["ready_s"],
            "url": url,
            "kubeconfig": str(kubeconfig),
            "context": context if merged else None,
        }
        print(json.dumps(facts))
        return
    if running:
        print(f"cluster {paths.name} is running at {url}")
    else:
        print(f"cluster {paths.name} is ready at {url} after {seconds:.2f} s")
    if merged and (person := os.environ.get("SUDO_USER", "root")) != "root":
        command = f"sudo sampan kubeconfig --name {paths.name} > FILE; export KUBECONFIG=FILE"
        print(f"root's kubectl uses it now (context {context}); for {person}: {command}")
    elif merged:
        print(f"kubectl uses it now (context {context}); elsewhere: KUBECONFIG={kubeconfig}")
    else:
        print(f"use it with: export KUBECONFIG={kubeconfig}")


def stay(link: Any) -> None:
    """Print changes until the supervisor ends; Ctrl-C ends the cluster."""
    try:
        for status in statuses(link):
            print(describe(status), flush=True)
    except KeyboardInterrupt:
        link.sendall(b"down\n")
        for _ in statuses(link):
            pass
