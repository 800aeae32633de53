"""`sampan ls`: every cluster of this machine, running or not."""

from __future__ import annotations

import json
import sys
from typing import Any

from sampan.paths import ClusterPaths, cluster_names

from .options import Json, paths_of
from .supervisor import connect, statuses

COLUMNS = ("name", "status", "nodes", "api", "data")


def ls(json_output: Json = False) -> None:
    """List the clusters of this machine. One that is stopped and has its data elsewhere than
    by default is not known."""
    found = [facts for name in cluster_names() if (facts := facts_of(paths_of(name, None)))]
    if json_output:
        print(json.dumps(found))
        return
    if not found:
        print("there are no clusters; make one with: sampan up", file=sys.stderr)
        return
    rows = [COLUMNS] + [tuple(str(facts[column]) for column in COLUMNS) for facts in found]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    for number, row in enumerate(rows):
        cells = (cell.upper() if number == 0 else cell or "-" for cell in row)
        print("   ".join(map(str.ljust, cells, widths)).rstrip())


def facts_of(paths: ClusterPaths) -> dict[str, Any] | None:
    """A row; None where there is a folder of the name and no cluster."""
    link = connect(paths)
    if link is None:
        if not (paths.config.exists() or paths.order.exists()):
            return None
        return dict(zip(COLUMNS, (paths.name, "stopped", "", "", str(paths.data)), strict=True))
    with link:
        status = next(statuses(link), None)
    if status is None:
        return None
    parts = status["parts"]
    states = {part["state"] for part in parts.values()}
    state = "running" if states == {"ready"} else "stopping" if status["stopping"] else "starting"
    nodes = sum(part.partition("-")[0] == "node" for part in parts)
    url = parts.get("control", {}).get("url", "")
    return dict(zip(COLUMNS, (paths.name, state, nodes, url, status["data"]), strict=True))
