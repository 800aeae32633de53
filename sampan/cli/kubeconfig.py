"""`sampan kubeconfig`: the admin kubeconfig, for files and pipes."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import NAME, Data, Name, fail, not_running, paths_of


def kubeconfig(
    name: Name = NAME,
    data: Data = None,
    path: Annotated[bool, typer.Option("--path", help="Print the file's path instead.")] = False,
) -> None:
    """Print a cluster's admin kubeconfig (it holds a key: keep it private)."""
    paths = paths_of(name, data)
    file = paths.kubeconfig
    if not file.exists():
        fail(not_running(paths))
    print(file if path else file.read_text(), end="\n" if path else "")
