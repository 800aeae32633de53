"""The figures, upstream's values for them, and how a run becomes docs/benchmarks.md."""

from __future__ import annotations

import platform
import time
from typing import Any, NamedTuple

from sampan.version import VERSION


class Figure(NamedTuple):
    """One line of the table. `upstream` is what Kubernetes 1.36.2 did on a machine of the same
    kind; `up` says that more is better."""

    name: str
    unit: str
    upstream: float | None
    up: bool


FIGURES = {
    "boot": Figure("from nothing to API, Ready node and DNS", "s", 8.4, False),
    "memory": Figure("resident memory, all processes, one minute after boot", "MB", 694, False),
    "cpu": Figure("CPU when idle, all processes", "% of a core", 8, False),
    "create configmap/1": Figure("create ConfigMap, 1 connection", "per s", 395, True),
    "create configmap/16": Figure("create ConfigMap, 16 connections", "per s", 1150, True),
    "create pod/1": Figure("create Pod, 1 connection", "per s", 337, True),
    "create pod/16": Figure("create Pod, 16 connections", "per s", 603, True),
    "patch pod (merge)": Figure("merge-patch Pod", "per s", 483, True),
    "patch pod status (strategic)": Figure("strategic-patch Pod status", "per s", 464, True),
    "apply configmap (server-side)": Figure("server-side apply ConfigMap", "per s", 950, True),
    "get pod": Figure("get Pod", "per s", 2009, True),
    "list 500 pods": Figure("list 500 Pods, 4 connections", "per s", 26, True),
    "list by label": Figure("list Pods by label, few of 3300 match", "per s", 11, True),
    "list all": Figure("list all Pods of a namespace", "s", 0.29, False),
    "fan-out p50": Figure("watch fan-out to 50 watchers, p50", "ms", 4.1, False),
    "fan-out p99": Figure("watch fan-out to 50 watchers, p99", "ms", 33, False),
    "schedule": Figure("create and schedule 3000 Pods on 500 nodes", "s", 14.7, False),
    "pod start": Figure("start a Pod, image present: create to Running, p50", "ms", 531, False),
    "pod ready": Figure("the same, to Ready with a one-second probe, p50", "ms", None, False),
    "burst": Figure("Deployment of 30, all Ready", "s", 5.3, False),
    "delete": Figure("delete a namespace with 40 Pods (grace 1 s)", "s", 12.7, False),
}


def collect(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The load tools' JSON lines as our figures."""
    out: dict[str, float] = {}
    for line in lines:
        name = line["figure"]
        if name in ("create configmap", "create pod"):
            out[f"{name}/{line['conc']}"] = line["per_s"]
        elif name == "list all pods of namespace":
            out["list all"] = line["seconds"]
        elif name == "watch fan-out":
            out["fan-out p50"], out["fan-out p99"] = line["p50_ms"], line["p99_ms"]
        elif name == "schedule":
            out["schedule"] = line["all_bound_s"]
        elif name == "sequential pod start" and "running_p50_ms" in line:
            out["pod start"], out["pod ready"] = line["running_p50_ms"], line["ready_p50_ms"]
        elif name == "deployment burst":
            out["burst"] = line["all_ready_s"]
        elif name == "delete namespace with all pods":
            out["delete"] = line["seconds"]
        elif "per_s" in line:
            out[name] = line["per_s"]
    return out


def times(figure: Figure, value: float) -> str:
    if figure.upstream is None or not value:
        return ""
    ratio = value / figure.upstream if figure.up else figure.upstream / value
    return f"x{ratio:.1f}"


def page(values: dict[str, float], notes: list[str]) -> str:
    """docs/benchmarks.md."""
    rows = [
        "# Benchmarks",
        "",
        f"Sampan {VERSION}, {time.strftime('%Y-%m-%d', time.gmtime())}, Python"
        f" {platform.python_version()}, Linux {platform.release()}, 2 cores. Made by `make bench`:",
        "a cluster booted from empty data, loaded from the same machine (TLS, bearer token, RBAC;",
        "16 connections unless said otherwise). The upstream column is Kubernetes 1.36.2 with etcd",
        "3.5.1 and containerd 1.6.20, measured with the same tools on a machine of the same kind.",
        "Absolute figures move with the machine; compare the ratios.",
        "",
        "| figure | Sampan | upstream | better by |",
        "|---|---|---|---|",
    ]
    for key, figure in FIGURES.items():
        if key in values:
            upstream = "" if figure.upstream is None else f"{figure.upstream:g} {figure.unit}"
            ours = f"{values[key]:g} {figure.unit}"
            rows.append(f"| {figure.name} | {ours} | {upstream} | {times(figure, values[key])} |")
    return "\n".join([*rows, "", *notes, ""])
