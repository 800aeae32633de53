"""`sampan addon`: things to have in a cluster that not every cluster needs.

An add-on is a folder: manifests (*.yaml, applied in the order of their names) or a Helm chart
(Chart.yaml; needs sampan[helm]). The folders are those that come with Sampan, and the user's own in
DATA/addons or anywhere by path. addon.yaml may say more: what it is (`description`), what to wait
for (`wait`, KIND/NAME in `namespace`), and an image to build from a program that pip has installed
(`image`), since there may be no registry to pull it from; of a chart, in which `namespace` it is
and its `values`, over which those of --values and --set go.

What was applied is noted in the ConfigMap kube-system/sampan-addon-NAME, so that `disable` removes
just that, and `enable` again removes what a newer version has no more.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct

from sampan.paths import ClusterPaths

from . import api, objects
from .options import NAME, Data, Json, Name, fail, paths_of
from .progress import Progress
from .tokens import running_url

app = typer.Typer(help="Enable and disable add-ons: ingress, ...", no_args_is_help=True)

PACKAGED = Path(__file__).parent.parent / "addons"
NOTES = "/api/v1/namespaces/kube-system/configmaps"
PREFIX = "sampan-addon-"
LABEL = "addon.sampan.io/name"
CHART = "chart "
"""Before NAMESPACE/RELEASE in a note."""

Addon = Annotated[str, typer.Argument(metavar="ADDON", help="A name, or the path of a folder.")]
Values = Annotated[
    list[Path] | None,
    typer.Option("--values", "-f", help="A file of values for a chart.", exists=True),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="key=value[,key=value]")]


class Found(Struct, frozen=True):
    name: str
    folder: Path
    about: dict[str, Any]

    @property
    def is_chart(self) -> bool:
        return (self.folder / "Chart.yaml").exists()

    @property
    def namespace(self) -> str:
        """A chart's, and that of what is waited for."""
        return str(self.about.get("namespace") or "default")

    @property
    def manifests(self) -> list[dict[str, Any]]:
        files = sorted(self.folder.glob("*.yaml"))
        return [obj for f in files if f.name != "addon.yaml" for obj in objects.documents(f)]


class Note(Struct, frozen=True):
    """What is kept of an add-on that is enabled."""

    objects: list[str]
    """Their paths, in order; a release is CHART and NAMESPACE/NAME."""
    values: dict[str, Any] = {}
    """For a chart, as the user gave them."""


@app.command("ls")
def list_addons(name: Name = NAME, data: Data = None, json_output: Json = False) -> None:
    """List the add-ons there are, and which of them are enabled."""
    paths = paths_of(name, data)
    enabled = set[str]()
    if paths.config.exists():
        # What there is can be listed also while nobody knows what is enabled.
        with suppress(OSError):
            enabled = set(notes(paths, running_url(paths)))
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
def enable(
    addon: Addon,
    values: Values = None,
    sets: Set = None,
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Apply an add-on, or its newer version, and wait until it is ready. Values for a chart are
    kept until others are given."""
    paths = paths_of(name, data)
    url = running_url(paths)
    found = find(paths, addon)
    before = note_of(paths, url, found.name) or Note([])
    if found.is_chart:
        from .helm import sdk

        sdk()
    given = choose_values(found, before, values, sets)
    said, applied = "", list[str]()
    with Progress(f"enabling {found.name}") as progress:
        image = ("", "")
        if "image" in found.about:
            from .programs import place_image

            progress.say("building its image")
            image = found.about["image"]["tag"], place_image(paths, found.about["image"])
        progress.say(f"applying its {'chart' if found.is_chart else 'manifests'}")
        try:
            if found.is_chart:
                said = enable_chart(found, (paths, url), given, (before, applied))
            else:
                objects.apply_all(paths, url, rename(found.manifests, image), applied)
        except BaseException:
            # What is there by now can be taken away, as can what was there before.
            kept = [path for path in before.objects if path not in applied]
            keep_note(paths, url, found.name, Note([*kept, *applied], given))
            raise
        keep_note(paths, url, found.name, Note(applied, given))
        remove_all(paths, url, [path for path in before.objects if path not in applied])
        for what in found.about.get("wait") or ():
            progress.say(f"waiting for {what}")
            objects.await_ready(paths, url, found.namespace, what)
    print(f"add-on {found.name} is enabled" + (f"\n{said}" if said else ""))


@app.command()
def disable(addon: Addon, name: Name = NAME, data: Data = None) -> None:
    """Remove everything that an add-on has brought."""
    paths = paths_of(name, data)
    url = running_url(paths)
    label = Path(addon).name
    note = note_of(paths, url, label)
    if note is None:
        fail(f"add-on {label} is not enabled")
    remove_all(paths, url, note.objects)
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
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,48}[a-z0-9])?", folder.name):
        fail(f"{folder}: an add-on's name is a to z, 0 to 9, - and ., at most 50 of them")
    file = folder / "addon.yaml"
    about = objects.documents(file) if file.exists() else []
    return Found(folder.name, folder, about[0] if about else {})


def describe(found: Found) -> str:
    return str(found.about.get("description", ""))


# Notes


def notes(paths: ClusterPaths, url: str) -> dict[str, Note]:
    """Of each add-on that is enabled. Raises OSError."""
    listed = api.get(paths, url, f"{NOTES}?labelSelector={LABEL}")["items"]
    return {item["metadata"]["labels"][LABEL]: read_note(item["data"]) for item in listed}


def note_of(paths: ClusterPaths, url: str, name: str) -> Note | None:
    """Ends the command when it cannot be asked for: what it names would never be removed."""
    try:
        return notes(paths, url).get(name)
    except OSError as error:
        fail(f"{url}: {error}")


def read_note(data: dict[str, str]) -> Note:
    return Note(json.loads(data["objects"]), json.loads(data.get("values") or "{}"))


def keep_note(paths: ClusterPaths, url: str, name: str, note: Note) -> None:
    meta = {"name": PREFIX + name, "namespace": "kube-system", "labels": {LABEL: name}}
    data = {"objects": json.dumps(note.objects)}
    if note.values:
        data["values"] = json.dumps(note.values)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
    api.apply(paths, url, f"{NOTES}/{PREFIX}{name}?{objects.MANAGER}", body)


def remove_all(paths: ClusterPaths, url: str, applied: list[str]) -> None:
    """Last first; what is in a namespace that goes has gone by itself."""
    for path in reversed(applied):
        if path.startswith(CHART):
            from .charts import uninstall

            namespace, _, release = path.removeprefix(CHART).partition("/")
            uninstall(paths, url, (namespace, release))
        else:
            objects.remove(paths, url, path)


def rename(manifests: list[dict[str, Any]], image: tuple[str, str]) -> list[dict[str, Any]]:
    """With the image's name in this cluster for the one that the add-on gives it."""
    tag, name = (json.dumps(item) for item in image)
    found: list[dict[str, Any]] = json.loads(json.dumps(manifests).replace(tag, name))
    return found if image[0] else manifests


# Charts


def choose_values(
    found: Found, before: Note, files: list[Path] | None, sets: list[str] | None
) -> dict[str, Any]:
    """What the user gives, else what was given before."""
    if not files and not sets:
        return before.values
    if not found.is_chart:
        fail(f"add-on {found.name} is no chart: it takes no values")
    from .charts import merge_values

    given: dict[str, Any] = merge_values(files, sets)
    return given


def enable_chart(
    found: Found,
    cluster: tuple[ClusterPaths, str],
    given: dict[str, Any],
    notes: tuple[Note, list[str]],
) -> str:
    """Its namespace and its kinds, then its release; what it says to its user. `notes`: what was
    there before, and what gets the paths of what is there now."""
    from . import charts
    from .helm import merge

    before, applied = notes
    paths, url = cluster
    place = f"/api/v1/namespaces/{found.namespace}"
    if charts.make_namespace(paths, url, found.namespace) or place in before.objects:
        applied.append(place)
    objects.apply_all(paths, url, charts.kinds(found.folder), applied)
    applied.append(f"{CHART}{found.namespace}/{found.name}")
    values: dict[str, Any] = {}
    merge(values, found.about.get("values") or {})
    merge(values, given)
    return charts.install(paths, (found.namespace, found.name), found.folder, values)
