"""Options that every command takes, and the errors it may end with."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sampan.paths import DEFAULT_NAME, ClusterPaths, cluster_paths

Name = Annotated[str, typer.Option("--name", help="The cluster, when there are several.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Its data folder [as root: /var/lib/sampan/NAME].", metavar="DIR"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

NAME = DEFAULT_NAME


def paths_of(name: str, data: Path | None) -> ClusterPaths:
    """The paths of the cluster that is meant. Where it runs its name says which it is, so that
    --data needs to be given to `up` alone."""
    try:
        paths = cluster_paths(name, data)
    except ValueError as error:
        fail(str(error))
    place = paths.place() if data is None else None
    return paths if place is None else cluster_paths(name, place)


def owner_of(paths: ClusterPaths) -> str:
    """The name of the cluster that a data folder is of; "" where there is none."""
    try:
        return str(json.loads(paths.config.read_bytes())["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def settings_of(paths: ClusterPaths) -> dict[str, Any]:
    """What DATA/cluster.json says, {} where there is none. Ends the command where it is damaged."""
    try:
        found = json.loads(paths.config.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        fail(f"{paths.config}: {error.strerror}")
    except ValueError as error:
        fail(f"{paths.config} is damaged: {error}")
    if not isinstance(found, dict):
        fail(f"{paths.config} is damaged: it is no map")
    return found


def listening(paths: ClusterPaths) -> tuple[str, int]:
    """Where a cluster that has been started listens. Ends the command likewise."""
    settings = settings_of(paths)
    try:
        return str(settings["listen_host"]), int(settings["listen_port"])
    except (KeyError, TypeError, ValueError):
        fail(f"{paths.config} is damaged: it does not say where the API listens")


def up_command(paths: ClusterPaths) -> str:
    """What starts this cluster."""
    command = "sampan up" if paths.name == NAME else f"sampan up --name {paths.name}"
    if paths.data.exists() and paths.data != cluster_paths(paths.name).data:
        command += f" --data {paths.data}"
    return command


def not_running(paths: ClusterPaths, more: str = "") -> str:
    """What to say of a cluster that does not run, or never did, and how to start it."""
    here = paths.data.exists()
    state = f"cluster {paths.name} is not running" if here else f"there is no cluster {paths.name}"
    # Who typed sudo for `up` forgets it afterwards.
    hint = " (root's clusters are seen by root alone: try sudo)" if os.geteuid() else ""
    return f"{state}; start it with: {up_command(paths)}{more}{hint}"


def make_data(paths: ClusterPaths) -> None:
    """Make the data folder, or take it as it is; ends the command where it is something else's."""
    if not paths.config.exists() and (what := strangers(paths)):
        fail(f"{paths.data} {what}; give --data a folder that is new or empty")
    paths.data.mkdir(parents=True, exist_ok=True, mode=0o700)


def strangers(paths: ClusterPaths) -> str:
    """Words for what is in the data folder and not a cluster's; ends the command where it cannot
    be read."""
    try:
        names = paths.strangers()
    except OSError as error:
        fail(f"{paths.data}: {error.strerror}")
    if not names:
        return ""
    few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"holds what is no cluster's ({few})"


def fail(text: str) -> NoReturn:
    """One line that says what is wrong and how to mend it; exit code 1."""
    print(f"sampan: {text}", file=sys.stderr)
    raise typer.Exit(1)


def context_of(name: str) -> str:
    """The kubeconfig context of a cluster."""
    return "sampan" if name == DEFAULT_NAME else f"sampan-{name}"
