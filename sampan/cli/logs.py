"""`sampan logs`: what the parts of a cluster wrote."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from .options import NAME, Data, Name, fail, paths_of

PARTS = ("supervisor", "control", "node", "cleanup")


def logs(
    part: Annotated[str, typer.Argument(help=f"One of {', '.join(PARTS)}; all without it.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="How many of the last lines.")] = 100,
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Show the logs of a cluster's parts."""
    folder = paths_of(name, data).logs
    if part and part not in PARTS:
        fail(f"no part {part!r}; the parts are {', '.join(PARTS)}")
    files = [folder / f"{item}.log" for item in ([part] if part else PARTS)]
    files = [file for file in files if file.exists()]
    if not files:
        fail(f"cluster {name} has written no logs in {folder}")
    # coreutils' tail waits by inotify and survives truncation; nothing to write again here.
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, files)]
    os.execvp("tail", command)
