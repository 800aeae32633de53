"""Objects of files, applied and removed one by one: what an add-on's manifests need of kubectl."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sampan.paths import ClusterPaths

from . import api
from .options import fail

MANAGER = "fieldManager=sampan-addon&force=true"
ESTABLISH_S = 20.0
READY_S = 120.0
PAUSE_S = 0.25
"""Between looks at what is being waited for: a command may poll, while somebody watches it."""


def documents(file: Path) -> list[dict[str, Any]]:
    """The objects of a file; a List's are its items."""
    return parse(file.read_text(), str(file))


def parse(text: str, name: str) -> list[dict[str, Any]]:
    """The objects of a text; ends the command when it is not YAML."""
    import re

    from sampan.wire import yaml

    found: list[dict[str, Any]] = []
    for part in re.split(r"(?m)^---(?:[ \t].*)?$", text):
        try:
            obj = yaml.loads(part)
        except ValueError as error:
            fail(f"{name}: {error}")
        if isinstance(obj, dict):
            found += obj["items"] if obj.get("kind") == "List" else [obj]
    return found


def apply_all(
    paths: ClusterPaths, url: str, objects: list[dict[str, Any]], applied: list[str]
) -> None:
    """Apply objects in order, on the server's side. `applied` gets their paths, one by one: it is
    true also when this ends the command."""
    kinds: dict[str, dict[str, Any]] = {}
    pending: list[str] = []

    def settle() -> None:
        for path in pending:
            await_established(paths, url, path)
        pending.clear()
        kinds.clear()

    for obj in objects:
        if obj.get("kind") != "CustomResourceDefinition" and pending:
            settle()
        path = path_of(paths, url, obj, kinds)
        try:
            api.apply(paths, url, f"{path}?{MANAGER}", obj)
        except urllib.error.HTTPError as error:
            fail(f"{obj.get('kind')} {obj['metadata']['name']}: {api.reason(error)}")
        applied.append(path)
        if obj["kind"] == "CustomResourceDefinition":
            pending.append(path)
    settle()


def path_of(
    paths: ClusterPaths, url: str, obj: dict[str, Any], kinds: dict[str, dict[str, Any]]
) -> str:
    """Where an object is in the API, by what discovery says of its kind."""
    version, kind = str(obj.get("apiVersion", "")), str(obj.get("kind", ""))
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if version not in kinds:
        try:
            listed = api.get(paths, url, base)["resources"]
        except OSError:
            fail(f"the cluster does not know {version}, which {kind} is of")
        kinds[version] = {item["kind"]: item for item in listed if "/" not in item["name"]}
    known = kinds[version].get(kind)
    meta = obj.get("metadata") or {}
    if known is None or not meta.get("name"):
        fail(f"{version} {kind} {meta.get('name')!r} is not an object the cluster knows")
    where = f"/namespaces/{meta.get('namespace', 'default')}" if known["namespaced"] else ""
    return f"{base}{where}/{known['name']}/{meta['name']}"


def remove(paths: ClusterPaths, url: str, path: str) -> None:
    """Delete an object and what it owns; one that is gone is fine."""
    try:
        api.delete(paths, url, f"{path}?propagationPolicy=Background")
    except urllib.error.HTTPError as error:
        fail(f"{path}: {api.reason(error)}")


def until(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(PAUSE_S)


def await_established(paths: ClusterPaths, url: str, path: str) -> None:
    for _ in until(ESTABLISH_S):
        conditions = (api.get(paths, url, path).get("status") or {}).get("conditions") or ()
        if any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
            return
    fail(f"{path.rpartition('/')[2]} is not established after {ESTABLISH_S:.0f} s")


def await_ready(paths: ClusterPaths, url: str, namespace: str, what: str) -> None:
    """`what` is deployments/NAME, daemonsets/NAME or statefulsets/NAME."""
    path = f"/apis/apps/v1/namespaces/{namespace}/{what}"
    for _ in until(READY_S):
        obj = api.get(paths, url, path)
        status = obj.get("status") or {}
        wanted = status.get("desiredNumberScheduled", (obj.get("spec") or {}).get("replicas", 1))
        ready = status.get("numberReady", status.get("readyReplicas", 0))
        current = status.get("observedGeneration") == obj["metadata"].get("generation")
        if current and ready >= wanted:
            return
    fail(f"{what} is not ready after {READY_S:.0f} s; see: kubectl -n {namespace} get pods")
