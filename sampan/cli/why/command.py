"""`sampan why pod/x`: the command. Exit code 0 when nothing is broken, 1 when something is."""

from __future__ import annotations

import json
import time
import urllib.error
from typing import Annotated, Any

import typer

from sampan.cli import api
from sampan.cli.options import NAME, Data, Name, fail, not_running, paths_of
from sampan.cli.supervisor import connect, status_of, url_of


def why(
    target: Annotated[list[str], typer.Argument(metavar="KIND/NAME")],
    namespace: Annotated[str, typer.Option("--namespace", "-n")] = "default",
    output: Annotated[str, typer.Option("--output", "-o", help="json, or a tree.")] = "",
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Say why something is not as it should be: pod/x, deployment/x, service/x, and so on."""
    # What this needs is imported here: every other command starts without it.
    from .finding import findings_of
    from .gathering import CLUSTER, KINDS, NAMES, gather, gather_any
    from .showing import as_data, tree_of
    from .strangers import resolve

    kind, _, wanted = "/".join(target).partition("/")
    plural = kind.lower() if kind.lower() in KINDS else NAMES.get(kind.lower(), "")
    if not kind or not wanted or "/" in wanted:
        fail(f"{' '.join(target)!r}: use KIND/NAME, as in pod/web or deployment/web")
    paths = paths_of(name, data)
    link = connect(paths)
    if link is None:
        fail(not_running(paths))
    url = url_of(status_of(link))
    link.close()

    def ask(path: str) -> Any:
        try:
            return api.get(paths, url, path)
        except json.JSONDecodeError as error:
            return error.doc
        except urllib.error.HTTPError as error:
            if error.code != 404 and not path.partition("?")[0].endswith("/log"):
                raise
            return None

    try:
        if plural:
            facts = gather(ask, plural, namespace, wanted, time.time())
        else:
            place = resolve(ask, kind)
            if place is None:
                fail(f"the server has no resource type {kind!r}")
            facts = gather_any(ask, place, namespace, wanted, time.time())
    except OSError as error:
        fail(f"the API server at {url} does not answer: {error}")
    if facts is None:
        where = "" if plural in CLUSTER else f" in namespace {namespace}"
        fail(f"there is no {KINDS.get(plural, kind).lower()} {wanted}{where}")
    if output == "json":
        print(json.dumps(as_data(facts), indent=2))
    else:
        from rich.console import Console

        Console(highlight=False).print(tree_of(facts))
    raise typer.Exit(any(item.broken for item in findings_of(facts)))
