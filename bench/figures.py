"""The figures, upstream's values for them, and how a run becomes docs/benchmarks.md."""

from __future__ import annotations

import platform
import time
from typing import Any, NamedTuple

from sampan.version import VERSION


class Figure(NamedTuple):
    """One line of the table. `upstream` is what Kubernetes 1.36.2 did on a machine of the same
    kind; `up` says that more is better; `goal` is a ratio to upstream, or a value without one."""

    name: str
    unit: str
    upstream: float | None
    up: bool
    goal: float | None = None


FIGURES = {
    "boot": Figure("from nothing to API, Ready node and DNS", "s", 8.4, False, 8.4),
    "memory": Figure(
        "resident memory, all processes, one minute after boot", "MB", 694, False, 4.63
    ),
    "cpu": Figure("CPU when idle, all processes", "% of a core", 8, False, 8),
    "create configmap/1": Figure("create ConfigMap, 1 connection", "per s", 395, True, 2),
    "create configmap/16": Figure("create ConfigMap, 16 connections", "per s", 1150, True, 3),
    "create pod/1": Figure("create Pod, 1 connection", "per s", 337, True, 2),
    "create pod/16": Figure("create Pod, 16 connections", "per s", 603, True, 3),
    "patch pod (merge)": Figure("merge-patch Pod", "per s", 483, True, 3),
    "patch pod status (strategic)": Figure("strategic-patch Pod status", "per s", 464, True, 3),
    "apply configmap (server-side)": Figure("server-side apply ConfigMap", "per s", 950, True, 2),
    "get pod": Figure("get Pod", "per s", 2009, True, 5),
    "list 500 pods": Figure("list 500 Pods, 4 connections", "per s", 26, True, 20),
    "list by label": Figure("list Pods by label, few of 3300 match", "per s", 11, True, 50),
    "list all": Figure("list all Pods of a namespace", "s", 0.29, False, 5),
    "wrk get": Figure("get Pod, asked by wrk", "per s", None, True),
    "wrk list": Figure("list 500 Pods, asked by wrk, 4 connections", "per s", None, True),
    "wrk label": Figure("list Pods by label, asked by wrk, 4 connections", "per s", None, True),
    "fan-out p50": Figure("watch fan-out to 50 watchers, p50", "ms", 4.1, False, 2),
    "fan-out p99": Figure("watch fan-out to 50 watchers, p99", "ms", 33, False, 2),
    "schedule": Figure("create and schedule 3000 Pods on 500 nodes", "s", 14.7, False, 4),
    "pod start": Figure(
        "start a Pod, image present: create to Running, p50", "ms", 531, False, 8.85
    ),
    "pod ready": Figure("the same, to Ready with a one-second probe, p50", "ms", None, False, 80),
    "burst": Figure("Deployment of 30, all Ready", "s", 5.3, False, 6.62),
    "delete": Figure("delete a namespace with 40 Pods (grace 1 s)", "s", 12.7, False, 5.08),
    "bare crun": Figure("crun run, without image, network and API, p50", "ms", None, False),
    "many pods": Figure("200 Pods on one node, created one by one, all Ready", "s", None, False),
    "idle pod": Figure("memory of the agent per idle Pod", "MB", None, False, 2),
    "idle pod cpu": Figure("CPU of the agent per idle Pod", "% of a core", None, False, 0.1),
    "stored pod": Figure("memory per stored Pod, 50,000 of 1.7 KB", "KB", None, False, 8),
    "idle watch": Figure("memory per idle watch, with TLS, 5,000 of them", "KB", None, False),
    "write p50, few spread": Figure(
        "a write, 50 watches of an object each, p50", "ms", None, False
    ),
    "write p50, many spread": Figure(
        "a write, 5,000 watches of an object each, p50", "ms", None, False
    ),
    "write p50, few same": Figure(
        "a write, 50 watches of the whole collection, p50", "ms", None, False
    ),
    "write p50, many same": Figure(
        "a write, 5,000 watches of the whole collection, p50", "ms", None, False
    ),
    "tracking": Figure("managedFields, largest share of a write's CPU", "%", None, False, 33.3),
    "growth": Figure("CPU of a write at 50,000 Pods against 1,000", "times", None, False, 1),
    "schedule plain": Figure(
        "scheduling alone, stored Pods, 5000 nodes: plain", "per s", None, True, 3000
    ),
    "schedule spread": Figure("the same with topology spread", "per s", None, True, 1000),
    "schedule affinity": Figure("the same with Pod affinity", "per s", None, True, 500),
    "deployment up": Figure(
        "Deployment of 1000 on 500 simulated nodes, all Ready", "s", None, False, 5
    ),
    "deployment down": Figure("the same scaled to 0, no Pod left", "s", None, False, 5),
    "large memory, nodes": Figure("resident memory, 5000 simulated nodes", "MB", None, False),
    "large cpu, nodes": Figure("CPU at rest, 5000 simulated nodes", "% of a core", None, False),
    "large pods ready": Figure("50,000 Pods of 50 Deployments, all Ready", "s", None, False),
    "large memory": Figure("resident memory, with these 50,000 Pods", "MB", None, False),
    "large cpu": Figure("CPU at rest, with these 50,000 Pods", "% of a core", None, False),
    "large writes, share": Figure(
        "writes per second there, against an empty cluster", "times", None, True, 0.5
    ),
    "test first": Figure("sampan.testing, first cluster of a process", "ms", None, False, 300),
    "test fresh": Figure("sampan.testing, a fresh state for a test", "ms", None, False, 20),
    "net veth Gbit": Figure("throughput of a bare veth pair", "Gbit/s", None, True),
    "net pod Gbit": Figure("throughput from pod to pod", "Gbit/s", None, True),
    "net service Gbit": Figure("throughput through a service", "Gbit/s", None, True),
    "net veth connections": Figure("connections over a bare veth pair", "per s", None, True),
    "net pod connections": Figure("connections from pod to pod", "per s", None, True),
    "net service connections": Figure("connections through a service", "per s", None, True),
    "net change": Figure("one endpoint among 5,000 services changes, p50", "ms", None, False, 20),
    "net change CPU": Figure("the same, processor time", "ms", None, False),
    "silent out": Figure(
        "a silent node's pods are out of services, once it is not ready", "s", None, False, 2
    ),
    "silent back": Figure("in services again, once it is ready", "s", None, False, 2),
    "dns answers": Figure("DNS answers of one node, by the clock", "per s", None, True),
    "dns answers per core": Figure(
        "DNS answers per second of processor time", "per s", None, True, 20_000
    ),
    "dns p50": Figure("DNS answer at 10,000 a second, p50", "ms", None, False),
    "dns p99": Figure("DNS answer at 10,000 a second, p99", "ms", None, False, 2),
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


def goal_of(figure: Figure) -> str:
    """A ratio where there is an upstream figure, else a value."""
    if figure.goal is None:
        return ""
    if figure.upstream is not None:
        return f"x{figure.goal:.1f}"
    return f"{figure.goal:g} {figure.unit}"


HEAD = """\
# Benchmarks

Sampan {version}, {date}, Python {python}, Linux {linux}, 2 cores. Made by `make bench`: clusters
booted from empty data, one for each load tool, loaded from the same machine (TLS, bearer token,
RBAC; 16 connections unless said otherwise; of the API's figures the median of three runs). The
upstream column is Kubernetes 1.36.2 with etcd 3.5.1 and containerd 1.6.20, measured with the same
tools on a machine of the same kind. Absolute figures move with the machine; compare the ratios.

Other lines come from tools of our own, each to run by itself too: `python -m bench.reads` (wrk: the
load tool takes large lists more slowly than they are sent), `bench.memory`, `bench.watches`,
`bench.tracking`, `bench.growth`, `bench.testing`, `bench.scheduling`, `bench.simulated`,
`bench.dns`, `bench.network`, `bench.silence`, `bench.node`.

| figure | Sampan | upstream | better by | goal |
|---|---|---|---|---|
"""


def page(values: dict[str, float], ceilings: dict[str, float]) -> str:
    """docs/benchmarks.md. `ceilings` are the most the load tool can do of a figure."""
    head = HEAD.format(
        version=VERSION,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        python=platform.python_version(),
        linux=platform.release(),
    )
    rows = []
    for key, figure in FIGURES.items():
        if key in values:
            upstream = "" if figure.upstream is None else f"{figure.upstream:g} {figure.unit}"
            ours = f"{values[key]:g} {figure.unit}"
            ratio = times(figure, values[key])
            rows.append(f"| {figure.name} | {ours} | {upstream} | {ratio} | {goal_of(figure)} |")
    if "growth" in values:
        rows += ["", "![CPU per write against the number of Pods](growth.svg)"]
    if ceilings:
        rows += [
            "",
            "What the load tool itself can do on this machine, with so many connections, at a",
            "server that sends bytes made beforehand and does nothing else (`python -m",
            "bench.ceiling`). Its beginning is a part of every figure, of upstream too: for each",
            "connection it reads the machine's certificate authorities before it asks anything.",
            "",
            *(f"- {name}: {value:g} per s" for name, value in ceilings.items()),
        ]
    return head + "\n".join([*rows, ""])
