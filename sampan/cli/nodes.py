"""`sampan node`: more nodes on this machine, each with an agent and namespaces of its own.

The supervisor starts and stops them; a node that goes is also deleted from the API, and its pods
with it, so that their controllers make them anew elsewhere.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from sampan.paths import ClusterPaths

from . import api
from .image import runtime_of
from .options import NAME, Data, Name, fail, not_running, paths_of
from .progress import Progress
from .supervisor import (
    START_TIMEOUT_S,
    Status,
    connect,
    is_ready,
    status_of,
    statuses,
    url_of,
)

NODES_MAX = 64
"""The first, and as many as the supervisor has parts for."""
PART = "node"

app = typer.Typer(help="Add and remove nodes on this machine.", no_args_is_help=True)


@app.command()
def add(name: Name = NAME, data: Data = None) -> None:
    """Add a node and wait until it is ready."""
    paths = paths_of(name, data)
    check_runtime(runtime_of(paths))
    link, status = _follow(paths)
    numbers = node_numbers(status)
    if len(numbers) >= NODES_MAX:
        fail(f"{NODES_MAX} nodes are as many as a machine may have")
    number = next(item for item in range(2, NODES_MAX + 1) if item not in numbers)
    status = change(paths, link, (number,), ())
    print(f"node {status['parts'][part_of(number)]['node']} is ready")


def check_runtime(runtime: str) -> None:
    """Nodes of a machine share their images, which those of a containerd do not."""
    if runtime != "crun":
        fail(f"a machine has one node whose containers {runtime} runs")


@app.command("rm")
def remove(
    node: Annotated[str, typer.Argument(help="The node's name.")],
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Remove a node of this machine, its containers and its data. To let its pods end in their own
    time, drain it first."""
    paths = paths_of(name, data)
    link, status = _follow(paths)
    found = [n for n in node_numbers(status) if _name(status, n) == node]
    if not found:
        known = " ".join(filter(None, (_name(status, n) for n in node_numbers(status))))
        fail(f"there is no node {node} on this machine; there are: {known}")
    if found == [1]:
        fail(f"{node} is the cluster's first node; 'sampan down' stops it with the cluster")
    change(paths, link, (), found)
    print(f"node {node} is gone")


def resize(paths: ClusterPaths, link: socket.socket, status: Status, count: int) -> Status:
    """Have `count` nodes: the lowest numbers that are free, the highest go. The new status."""
    numbers = node_numbers(status)
    free = (number for number in range(2, NODES_MAX + 1) if number not in numbers)
    new = [next(free) for _ in range(count - len(numbers))]
    return change(paths, link, new, numbers[count:])


def node_numbers(status: Status) -> list[int]:
    """Of the nodes on this machine; the first is 1."""
    parts = [part.partition("-") for part in status["parts"]]
    return sorted(int(number or 1) for kind, _, number in parts if kind == PART)


def part_of(number: int) -> str:
    return PART if number == 1 else f"{PART}-{number}"


def change(
    paths: ClusterPaths, link: socket.socket, new: Iterable[int], gone: Iterable[int]
) -> Status:
    """Begin and end nodes; back when all is done. Ends the command when it cannot be."""
    new, gone = list(new), list(gone)
    names: dict[int, str] = {}
    lines = [f"add {number}" for number in new] + [f"remove {number}" for number in gone]

    def is_done(status: Status) -> bool:
        names.update({number: name for number in gone if (name := _name(status, number))})
        for number in new:
            part = status["parts"].get(part_of(number), {})
            if part.get("state") == "failed":
                fail(f"node {number}: {part['error'] or 'see sampan logs'}")
        present = set(node_numbers(status))
        return present.issuperset(new) and present.isdisjoint(gone) and is_ready(status)

    link.sendall("".join(f"{line}\n" for line in lines).encode())
    status = _wait(link, is_done)
    for number in gone:
        if number in names:
            _forget(paths, url_of(status), names[number])
        paths.parting(number).unlink(missing_ok=True)
    return status


def finish_partings(paths: ClusterPaths, status: Status) -> None:
    """Have the API forget nodes whose removal was cut short after they had gone from this machine.
    Raises OSError; then it is for the next time."""
    present = node_numbers(status)
    for number in paths.partings():
        if number not in present:
            mark = paths.parting(number)
            name = mark.read_text()
            if name and name not in (_name(status, item) for item in present):
                _forget(paths, url_of(status), name)
            mark.unlink(missing_ok=True)


def _forget(paths: ClusterPaths, url: str, node: str) -> None:
    """Delete a node whose containers are gone, and the pods they were of: nobody else will say
    that they have ended."""
    api.delete(paths, url, f"/api/v1/nodes/{node}")
    on_it = f"fieldSelector=spec.nodeName={node}"
    for pod in api.get(paths, url, f"/api/v1/pods?{on_it}")["items"]:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        api.delete(paths, url, f"{path}?gracePeriodSeconds=0")


def _wait(link: socket.socket, is_done: Callable[[Status], bool]) -> Status:
    with Progress("changing nodes"):
        try:
            for status in statuses(link, START_TIMEOUT_S):
                if is_done(status):
                    return status
        except TimeoutError:
            fail(f"the nodes are not ready after {START_TIMEOUT_S:.0f} s; see 'sampan logs'")
    fail("the cluster ended meanwhile; see 'sampan logs'")


def _follow(paths: ClusterPaths) -> tuple[socket.socket, Status]:
    link = connect(paths)
    if link is None:
        fail(not_running(paths))
    return link, status_of(link)


def _name(status: Status, number: int) -> str:
    return str(status["parts"].get(part_of(number), {}).get("node", ""))
