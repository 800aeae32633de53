"""All commands, in the order `sampan --help` shows them."""

from __future__ import annotations

import typer

from . import (
    addons,
    build,
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

app = typer.Typer(
    help="A Kubernetes cluster you install with pip.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up.up)
app.command()(down.down)
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
    app()
    return 0
