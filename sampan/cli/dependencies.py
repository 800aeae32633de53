"""`sampan helm dependency ...`: the charts that a chart needs, into its folder `charts/`.

Repositories are those that Chart.yaml names; Helm's own list of them is neither read nor changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .helm import errors, sdk, table
from .options import Json

COLUMNS = ("name", "version", "repository", "status")

app = typer.Typer(help="Fetch and list the charts that a chart needs.", no_args_is_help=True)

Folder = Annotated[
    Path, typer.Argument(metavar="CHART", help="A chart's folder.", exists=True, file_okay=False)
]


@app.command()
def update(chart: Folder) -> None:
    """Fetch what Chart.yaml asks for, and write Chart.lock."""
    helm = sdk()
    with errors():
        helm.dependency_update(chart)
    show(chart)


@app.command()
def build(chart: Folder) -> None:
    """Fetch what Chart.lock says."""
    helm = sdk()
    with errors():
        helm.dependency_build(chart)
    show(chart)


@app.command("list")
def list_dependencies(chart: Folder, json_output: Json = False) -> None:
    """List what a chart needs, and whether it is there."""
    show(chart, json_output=json_output)


def show(chart: Path, *, json_output: bool = False) -> None:
    helm = sdk()
    with errors():
        found = helm.dependency_list(chart)
    if json_output:
        print(json.dumps(found))
    else:
        table(found, COLUMNS)
