"""`sampan addon`: things to have in a cluster that not every cluster needs.

An add-on is a folder: manifests (*.yaml, applied in the order of their names) or a Helm chart
(Chart.yaml; needs sampan[helm]). The folders are those that come with Sampan, and the user's own in
DATA/addons or anywhere by path. addon.yaml may say more: what it is (`description`), what to wait
for (`wait`, KIND/NAME in `namespace`), and an image to build from a program that pip has installed
(`image`), since there may be no registry to pull it from.

What was applied is noted in the ConfigMap kube-system/sampan-addon-NAME, so that `disable` removes
just that, and `enable` again removes what a newer version has no more.
"""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
import tempfile
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct

from sampan.paths import ClusterPaths

from . import api
from .options import NAME, Data, Json, Name, fail, paths_of
from .progress import Progress
from .tokens import running_url

app = typer.Typer(help="Enable and disable add-ons: ingress, ...", no_args_is_help=True)

PACKAGED = Path(__file__).parent.parent / "addons"
NOTES = "/api/v1/namespaces/kube-system/configmaps"
PREFIX = "sampan-addon-"
MANAGER = "fieldManager=sampan-addon&force=true"
ESTABLISH_S = 20.0
READY_S = 120.0
PAUSE_S = 0.25
"""Between looks at what is being waited for: a command may poll, while somebody watches it."""

Addon = Annotated[str, typer.Argument(metavar="ADDON", help="A name, or the path of a folder.")]


class Found(Struct, frozen=True):
    name: str
    folder: Path
    about: dict[str, Any]

    @property
    def is_chart(self) -> bool:
        return (self.folder / "Chart.yaml").exists()


@app.command("ls")
def list_addons(name: Name = NAME, data: Data = None, json_output: Json = False) -> None:
    """List the add-ons there are, and which of them are enabled."""
    paths = paths_of(name, data)
    enabled = set(notes(paths, running_url(paths))) if paths.config.exists() else set()
    rows = [
        {"name": item.name, "enabled": item.name in enabled, "description": describe(item)}
        for item in addons(paths)
    ]
    rows += [
        {"name": item, "enabled": True, "description": ""}
        for item in sorted(enabled - {row["name"] for row in rows})
    ]
    if json_output:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['name']:16}{'enabled' if row['enabled'] else '-':10}{row['description']}")


@app.command()
def enable(addon: Addon, name: Name = NAME, data: Data = None) -> None:
    """Apply an add-on, or its newer version, and wait until it is ready."""
    paths = paths_of(name, data)
    url = running_url(paths)
    found = find(paths, addon)
    with Progress(f"enabling {found.name}") as progress:
        if "image" in found.about:
            progress.say("building its image")
            load_image(paths, found.about["image"])
        before = notes(paths, url).get(found.name, [])
        if found.is_chart:
            enable_chart(found, paths)
            applied = [f"chart {found.about.get('namespace', 'default')}/{found.name}"]
        else:
            progress.say("applying its manifests")
            applied = apply_all(paths, url, found)
        keep_note(paths, url, found.name, applied)
        remove_all(paths, url, [path for path in before if path not in applied])
        for what in found.about.get("wait") or ():
            progress.say(f"waiting for {what}")
            await_ready(paths, url, str(found.about.get("namespace", "default")), what)
    print(f"add-on {found.name} is enabled")


@app.command()
def disable(addon: Addon, name: Name = NAME, data: Data = None) -> None:
    """Remove everything that an add-on has brought."""
    paths = paths_of(name, data)
    url = running_url(paths)
    label = Path(addon).name
    applied = notes(paths, url).get(label)
    if applied is None:
        fail(f"add-on {label} is not enabled")
    remove_all(paths, url, applied)
    api.delete(paths, url, f"{NOTES}/{PREFIX}{label}")
    print(f"add-on {label} is disabled")


# Folders


def addons(paths: ClusterPaths) -> list[Found]:
    """Those that come with Sampan and the cluster's own, which win."""
    found = {}
    for place in (PACKAGED, paths.data / "addons"):
        for folder in sorted(place.iterdir()) if place.is_dir() else ():
            if folder.is_dir() and any(folder.glob("*.yaml")):
                found[folder.name] = read(folder)
    return list(found.values())


def find(paths: ClusterPaths, addon: str) -> Found:
    folder = Path(addon)
    if "/" in addon and folder.is_dir():
        return read(folder.resolve())
    known = {item.name: item for item in addons(paths)}
    if addon not in known:
        fail(f"there is no add-on {addon!r}; there are: {' '.join(known)}; or give a folder")
    return known[addon]


def read(folder: Path) -> Found:
    about = documents(folder / "addon.yaml") if (folder / "addon.yaml").exists() else [{}]
    return Found(folder.name, folder, about[0] if about else {})


def documents(file: Path) -> list[dict[str, Any]]:
    """The objects of a file; a List's are its items."""
    import re

    from sampan.wire import yaml

    found: list[dict[str, Any]] = []
    for text in re.split(r"(?m)^---(?:[ \t].*)?$", file.read_text()):
        try:
            obj = yaml.loads(text)
        except ValueError as error:
            fail(f"{file}: {error}")
        if isinstance(obj, dict):
            found += obj["items"] if obj.get("kind") == "List" else [obj]
    return found


def describe(found: Found) -> str:
    return str(found.about.get("description", ""))


# Objects


def apply_all(paths: ClusterPaths, url: str, found: Found) -> list[str]:
    """Apply every manifest on the server's side; the paths of the objects, in order."""
    objects = [
        obj
        for file in sorted(found.folder.glob("*.yaml"))
        if file.name != "addon.yaml"
        for obj in documents(file)
    ]
    kinds: dict[str, dict[str, Any]] = {}
    applied = []
    pending: list[str] = []
    for obj in objects:
        if obj.get("kind") != "CustomResourceDefinition" and pending:
            for path in pending:
                await_established(paths, url, path)
            pending, kinds = [], {}
        path = path_of(paths, url, obj, kinds)
        try:
            api.apply(paths, url, f"{path}?{MANAGER}", obj)
        except urllib.error.HTTPError as error:
            fail(f"{obj.get('kind')} {obj['metadata']['name']}: {api.reason(error)}")
        applied.append(path)
        if obj["kind"] == "CustomResourceDefinition":
            pending.append(path)
    return applied


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


def remove_all(paths: ClusterPaths, url: str, applied: list[str]) -> None:
    """Last first; what is in a namespace that goes has gone by itself."""
    for path in reversed(applied):
        if path.startswith("chart "):
            disable_chart(path.removeprefix("chart "), paths)
            continue
        try:
            api.delete(paths, url, f"{path}?propagationPolicy=Background")
        except urllib.error.HTTPError as error:
            fail(f"{path}: {api.reason(error)}")


def notes(paths: ClusterPaths, url: str) -> dict[str, list[str]]:
    """Add-on -> the paths of its objects."""
    try:
        listed = api.get(paths, url, f"{NOTES}?labelSelector=addon.sampan.io/name")["items"]
    except OSError:
        return {}
    return {
        item["metadata"]["labels"]["addon.sampan.io/name"]: json.loads(item["data"]["objects"])
        for item in listed
    }


def keep_note(paths: ClusterPaths, url: str, name: str, applied: list[str]) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": PREFIX + name,
            "namespace": "kube-system",
            "labels": {"addon.sampan.io/name": name},
        },
        "data": {"objects": json.dumps(applied)},
    }
    api.apply(paths, url, f"{NOTES}/{PREFIX}{name}?{MANAGER}", body)


# Waiting


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


# Images and charts


def load_image(paths: ClusterPaths, image: dict[str, Any]) -> None:
    """Build an image of one program that pip has installed, unless it is there already."""
    import asyncio

    from sampan.runtime.build import File, ImageConfig, build_archive
    from sampan.runtime.images import ImageStore

    program = find_program(str(image["program"]))
    if program is None:
        fail(f"{image['program']} is missing; get it with: pip install 'sampan[{image['extra']}]'")
    store = ImageStore(paths.images)
    files = {program.name: File(program.read_bytes())}
    config = ImageConfig(entrypoint=[f"/{program.name}"])
    with tempfile.NamedTemporaryFile(dir=paths.data, suffix=".tar") as archive:
        archive.write(build_archive(files, config, str(image["tag"])))
        archive.flush()
        asyncio.run(store.load(Path(archive.name)))


def find_program(name: str) -> Path | None:
    """One that came with pip, else the one on the PATH."""
    packaged = Path(sysconfig.get_path("scripts")) / name
    if packaged.exists():
        return packaged
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    return Path(found) if found else None


def enable_chart(found: Found, paths: ClusterPaths) -> None:
    from . import helm

    helm.upgrade(
        found.name,
        str(found.folder),
        namespace=str(found.about.get("namespace", "default")),
        or_install=True,
        create_namespace=True,
        wait=True,
        name=paths.name,
        data=paths.data,
    )


def disable_chart(release: str, paths: ClusterPaths) -> None:
    from . import helm

    namespace, _, name = release.partition("/")
    helm.uninstall(
        name, namespace=namespace, ignore_not_found=True, name=paths.name, data=paths.data
    )
