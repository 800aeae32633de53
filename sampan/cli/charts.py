"""Charts as add-ons: a release of the folder's name, and all that Helm leaves to others.

Helm installs the kinds of a chart (crds/) once, and neither changes nor removes them; it keeps the
Pods and Jobs of hooks, and the namespace it made. Here kinds and namespace are the add-on's like
any manifest, and hooks go with their release.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sampan.paths import ClusterPaths

from . import api, objects
from .helm import TIMEOUT_S, errors, releases, sdk

FINE = ("deployed", "superseded")


def kinds(folder: Path) -> list[dict[str, Any]]:
    """The definitions that a chart's folder, or one of a chart it depends on, brings."""
    files = [*folder.glob("crds/**/*.y*ml"), *folder.glob("charts/*/crds/**/*.y*ml")]
    return [obj for file in sorted(files) for obj in objects.documents(file)]


def make_namespace(paths: ClusterPaths, url: str, name: str) -> bool:
    """False where it is somebody else's already, or was made before."""
    return api.create(paths, url, "/api/v1/namespaces", {"metadata": {"name": name}})


def install(paths: ClusterPaths, release: tuple[str, str], folder: Path, values: Any) -> str:
    """Make the release (namespace, name), or give it this chart and these values, and wait until it
    is ready. What the chart says to its user. Ends the command when Helm refuses."""
    helm = sdk()
    namespace, name = release
    with releases(paths.name, paths.data, namespace) as config:
        try:
            history = config.history(name)
        except helm.HelmNotFoundError:
            history = []
        if history and not any(item["status"] in FINE for item in history):
            # Helm refuses to go on from a first try that failed.
            config.uninstall(name)
            history = []
        change = config.upgrade if history else config.install
        options = {} if not history else {"reset_values": True}
        made = change(folder, name, values, wait="watcher", timeout=TIMEOUT_S, **options)
    return str(made.get("notes") or "").strip()


def uninstall(paths: ClusterPaths, url: str, release: tuple[str, str]) -> None:
    """Remove a release, with what its hooks left; one that is gone is fine."""
    helm = sdk()
    namespace, name = release
    with releases(paths.name, paths.data, namespace) as config:
        try:
            hooks = config.get_all(name)["hooks"]
        except helm.HelmNotFoundError:
            return
        config.uninstall(name, ignore_not_found=True, wait="watcher", timeout=TIMEOUT_S)
    known: dict[str, dict[str, Any]] = {}
    for hook in hooks:
        for obj in objects.parse(str(hook["manifest"]), str(hook["path"])):
            meta = {"namespace": namespace, **obj["metadata"]}
            path = objects.path_of(paths, url, {**obj, "metadata": meta}, known)
            objects.remove(paths, url, path)


def merge_values(files: list[Path] | None, sets: list[str] | None) -> Any:
    """What the user gives. Ends the command when it makes no sense."""
    from .helm import read_values

    with errors():
        return read_values(files, sets, None)
