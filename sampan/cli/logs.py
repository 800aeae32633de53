"""`sampan logs`: what the parts of a cluster wrote, and what pods wrote that are gone."""

from __future__ import annotations

import os
import sys
import urllib.error
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from .options import NAME, Data, Name, fail, paths_of

PARTS = ("supervisor", "control", "node", "cleanup")
POD = ("pod/", "pods/", "po/")


def logs(
    part: Annotated[
        str,
        typer.Argument(help=f"One of {', '.join(PARTS)} (all without it); or pod/NAME, deleted."),
    ] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="How many of the last lines.")] = 100,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Logs of a pod that was deleted within the hour.")
    ] = False,
    namespace: Annotated[str, typer.Option("--namespace", help="Of the deleted pod.")] = "default",
    container: Annotated[
        str, typer.Option("-c", "--container", help="Of the deleted pod; all without it.")
    ] = "",
    previous: Annotated[bool, typer.Option("--previous", help="Of the run before its last.")] = (
        False
    ),
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Show the logs of a cluster's parts, or of a pod that was deleted."""
    paths = paths_of(name, data)
    if deleted:
        _show_deleted(paths, part, namespace, (container, previous, lines))
        return
    if part.startswith(POD):
        fail(f"use kubectl logs {part}; with --deleted there are those of a pod that is gone")
    parts = [*PARTS, *(f"node-{number}" for number in paths.member_numbers())]
    if part and part not in parts:
        fail(f"no part {part!r}; the parts are {', '.join(parts)}")
    files = [paths.logs / f"{item}.log" for item in ([part] if part else parts)]
    files = [file for file in files if file.exists()]
    if not files:
        fail(f"cluster {name} has written no logs in {paths.logs}")
    # coreutils' tail waits by inotify and survives truncation; nothing to write again here.
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, files)]
    os.execvp("tail", command)


def _show_deleted(paths: Any, wanted: str, namespace: str, asked: tuple[str, bool, int]) -> None:
    """Ask every node for what it keeps, over the API server; without a pod, list it."""
    from .api import get, text
    from .tokens import running_url

    container, previous, lines = asked
    url = running_url(paths)
    pod = next((wanted.removeprefix(it) for it in POD if wanted.startswith(it)), wanted)
    found = []
    try:
        for node in get(paths, url, "/api/v1/nodes")["items"]:
            base = f"/api/v1/nodes/{quote(node['metadata']['name'])}/proxy/deletedLogs"
            try:
                kept = get(paths, url, base)["items"]
            except urllib.error.HTTPError as error:
                print(f"{node['metadata']['name']}: {error}", file=sys.stderr)
                continue
            found += [(base, item) for item in kept if not pod or item["name"] == pod]
    except OSError as error:
        fail(f"{url}: {error}")
    found.sort(key=lambda pair: -pair[1]["deletedAt"])
    if not pod:
        for _, item in found:
            print(f"{item['namespace']}\t{item['name']}\t{','.join(item['containers'])}")
        return
    chosen = next((pair for pair in found if pair[1]["namespace"] == namespace), None)
    if chosen is None:
        fail(f"no logs of a deleted pod {namespace}/{pod} are kept")
    base, item = chosen
    names = [container] if container else item["containers"]
    query = urlencode({"tailLines": lines} | ({"previous": "true"} if previous else {}))
    for each in names:
        path = f"{base}/{quote(namespace)}/{quote(pod)}/{quote(each, safe='')}?{query}"
        try:
            for line in text(paths, url, path):
                sys.stdout.write(f"[{each}] {line}" if len(names) > 1 else line)
        except urllib.error.HTTPError as error:
            fail(error.read().decode(errors="replace").strip() or str(error))
