"""All commands, in the order `sampan --help` shows them."""

from __future__ import annotations

import os
import sys
import urllib.error
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from . import (
    addons,
    api,
    build,
    clusters,
    dependencies,
    doctor,
    down,
    helm,
    image,
    join,
    kubeconfig,
    kubectl,
    logs,
    nodes,
    parts,
    simulate,
    status,
    tokens,
    up,
    version,
)
from .why import command as why

# What most need first; what runs by itself last.
ORDER = (
    *("up", "down", "ls", "status", "why", "logs", "kubeconfig", "kubectl", "helm"),
    *("image", "addon", "node", "simulate", "token", "join"),
    *("doctor", "version", "server", "agent"),
)


class InOrder(TyperGroup):
    """typer shows groups after commands; here both stand where they are looked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(super().list_commands(context), key=ORDER.index)


app = typer.Typer(
    cls=InOrder,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        version.version()
        raise typer.Exit


@app.callback()
def _options(
    show: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="As the command."),
    ] = False,
) -> None:
    """A Kubernetes cluster you install with pip."""


app.command()(up.up)
app.command()(down.down)
app.command()(clusters.ls)
app.command()(status.status)
app.command()(kubeconfig.kubeconfig)
app.command()(logs.logs)
app.command()(doctor.doctor)
image.app.command()(build.build)
image.app.command()(build.registry)
app.add_typer(image.app, name="image")
app.add_typer(nodes.app, name="node")
app.add_typer(addons.app, name="addon")
app.command(context_settings=kubectl.SETTINGS)(kubectl.kubectl)
helm.app.add_typer(dependencies.app, name="dependency")
app.add_typer(helm.app, name="helm")
app.command()(simulate.simulate)
app.command()(why.why)
app.command()(version.version)
app.add_typer(tokens.app, name="token")
app.command()(join.join)
app.command()(parts.server)
app.command()(parts.agent)


def main() -> int:
    """Run the command line; the exit code (typer exits by itself with others than 0)."""
    try:
        app()
    except OSError as error:
        # A full disk, a folder that may not be read, a server that is away: no fault of ours.
        print(f"sampan: {told(error)}", file=sys.stderr)
        return 1
    return 0


def told(error: OSError) -> str:
    """What the machine, or the API server, refused, in a line."""
    reason: object = getattr(error, "reason", None)
    if isinstance(error, urllib.error.HTTPError):
        return api.reason(error)
    if isinstance(reason, OSError):
        away = f"the API server does not answer: {reason.strerror or reason}"
        return f"{away}; 'sampan status' says whether the cluster runs"
    if error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)
