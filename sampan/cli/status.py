"""`sampan status`: what runs, how long, how much memory it takes, which nodes there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from sampan.version import GIT_VERSION, VERSION

from . import api
from .options import NAME, Data, Json, Name, fail, not_running, paths_of
from .supervisor import connect, status_of


def status(name: Name = NAME, data: Data = None, json_output: Json = False) -> None:
    """Show a cluster's parts, nodes, versions, memory and uptime. Exit code 1 when it is down."""
    paths = paths_of(name, data)
    link = connect(paths)
    if link is None:
        if json_output:
            print(json.dumps({"name": name, "running": False}))
            raise typer.Exit(1)
        fail(not_running(paths))
    facts = status_of(link)
    link.close()
    facts["running"] = True
    facts["version"], facts["kubernetes"] = VERSION, GIT_VERSION
    facts["memory_bytes"] = resident_bytes(facts["pid"])
    for part in facts["parts"].values():
        part["memory_bytes"] = resident_bytes(part["pid"])
        facts["memory_bytes"] += part["memory_bytes"]
    try:
        listed = api.get(paths, facts["parts"].get("control", {}).get("url", ""), "/api/v1/nodes")
        facts["nodes"] = [node_facts(node) for node in listed["items"]]
    except (OSError, ValueError):
        facts["nodes"] = []
    print(json.dumps(facts) if json_output else text(facts))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def node_facts(node: dict[str, Any]) -> dict[str, Any]:
    conditions = node.get("status", {}).get("conditions", [])
    ready = next((item["status"] for item in conditions if item["type"] == "Ready"), "Unknown")
    info = node.get("status", {}).get("nodeInfo", {})
    return {
        "name": node["metadata"]["name"],
        "ready": ready == "True",
        "version": info.get("kubeletVersion", ""),
        "runtime": info.get("containerRuntimeVersion", ""),
    }


def text(facts: dict[str, Any]) -> str:
    lines = [
        f"cluster {facts['name']}: up {facts['uptime_s']:.0f} s, "
        f"{facts['memory_bytes'] / 2**20:.0f} MiB, sampan {facts['version']}, "
        f"Kubernetes {facts['kubernetes']}",
        f"data    {facts['data']}",
    ]
    for name, part in facts["parts"].items():
        lines.append(
            f"{name:8}{part['state']}, pid {part['pid']}, "
            f"{part['memory_bytes'] / 2**20:.0f} MiB, {part['restarts']} restarts"
            + (f", {part['error']}" if part["error"] else "")
        )
    for node in facts["nodes"]:
        state = "ready" if node["ready"] else "not ready"
        lines.append(f"node    {node['name']} {state}, {node['version']}, {node['runtime']}")
    return "\n".join(lines)
