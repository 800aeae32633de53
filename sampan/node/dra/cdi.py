"""The Container Device Interface (CNCF CDI 1.0): what files below /etc/cdi and /var/run/cdi say a
container needs for a device, put into what the runtime is told.

Files are read when a container that has devices is started: drivers write them just before. Of two
files that have the same device the later folder's counts, as the specification has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from sampan.runtime.interface import ContainerSpec, Device, Mount

FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
FILE_MAX = 1 << 20
"""Bytes of a file: real ones have some thousands."""
FILES_MAX = 1000
HOOKS = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
)  # fmt: skip


class CdiError(Exception):
    """A device that no file explains, or a file that explains it wrongly."""


class DeviceNode(Struct, rename="camel"):
    path: str
    host_path: str = ""
    permissions: str = ""


class BindMount(Struct, rename="camel"):
    host_path: str
    container_path: str
    options: list[str] = field(default_factory=list)
    type: str = ""


class Hook(Struct, rename="camel"):
    hook_name: str
    path: str
    args: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    timeout: int | None = None


class Edits(Struct, rename="camel"):
    """`containerEdits`. intelRdt and netDevices are not applied."""

    env: list[str] = field(default_factory=list)
    device_nodes: list[DeviceNode] = field(default_factory=list)
    mounts: list[BindMount] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)
    additional_gids: list[int] = field(default_factory=list, name="additionalGids")


class Named(Struct, rename="camel"):
    name: str
    container_edits: Edits = field(default_factory=Edits)


class Spec(Struct, rename="camel"):
    """A whole file."""

    cdi_version: str
    kind: str
    devices: list[Named] = field(default_factory=list)
    container_edits: Edits = field(default_factory=Edits)


def read(folders: Iterable[Path] = FOLDERS) -> list[Spec]:
    """All files that can be read, the least important folder first; others are passed over."""
    return [spec for folder in folders for path in _files(folder) for spec in _parsed(path)]


def _files(folder: Path) -> Sequence[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".yaml"))
    except OSError:
        return ()
    return found[:FILES_MAX]


def _parsed(path: Path) -> Iterator[Spec]:
    try:
        if path.stat().st_size <= FILE_MAX:
            text = path.read_bytes()
            kind = msgspec.json if path.suffix == ".json" else msgspec.yaml
            yield kind.decode(text, type=Spec)
    except (OSError, ValueError, RecursionError):
        return


def edits_of(ids: Iterable[str], specs: Sequence[Spec]) -> list[Edits]:
    """Of devices named VENDOR/CLASS=NAME: for each file once what it wants for any of its devices,
    then each device's own. Raises CdiError."""
    out: list[Edits] = []
    general: list[str] = []
    missing = []
    for name in dict.fromkeys(ids):
        kind, _, device = name.partition("=")
        found = None
        for spec in specs:
            if spec.kind == kind:
                found = next(((spec, it) for it in spec.devices if it.name == device), found)
        if found is None:
            missing.append(name)
            continue
        if kind not in general:
            general.append(kind)
            out.insert(len(general) - 1, found[0].container_edits)
        out.append(found[1].container_edits)
    if missing:
        raise CdiError(f"failed to inject CDI devices: unresolvable CDI devices {missing}")
    return out


def applied(spec: ContainerSpec, edits: Sequence[Edits]) -> ContainerSpec:
    """What the runtime is told, with the edits. Raises CdiError."""
    env = [tuple(text.split("=", 1)) for item in edits for text in item.env]
    if any(len(pair) != 2 for pair in env):
        raise CdiError("failed to inject CDI devices: invalid environment variable")
    hooks: dict[str, list[Mapping[str, Any]]] = {
        name: list(found) for name, found in spec.hooks.items()
    }
    for item in edits:
        for hook in item.hooks:
            if hook.hook_name not in HOOKS:
                text = f"failed to inject CDI devices: unknown hook name {hook.hook_name!r}"
                raise CdiError(text)
            hooks.setdefault(hook.hook_name, []).append(_hook(hook))
    given = {name for name, _ in env}
    gids = [gid for item in edits for gid in item.additional_gids if gid]
    security = spec.security
    return replace(
        spec,
        env=[*(pair for pair in spec.env if pair[0] not in given), *((k, v) for k, v in env)],
        devices=[*spec.devices, *(_device(one) for item in edits for one in item.device_nodes)],
        mounts=[*spec.mounts, *(_mount(one) for item in edits for one in item.mounts)],
        security=replace(
            security,
            supplemental_gids=[*dict.fromkeys([*security.supplemental_gids, *gids])],
        ),
        hooks=hooks,
    )


def _device(item: DeviceNode) -> Device:
    return Device(item.path, item.host_path or item.path, item.permissions or "rwm")


def _mount(item: BindMount) -> Mount:
    kind = item.type or "bind"
    options = item.options or ["ro", "nosuid", "nodev"]
    if kind == "bind" and not {"bind", "rbind"} & {*options}:
        options = ["rbind", *options]
    return Mount(item.container_path, item.host_path, kind, tuple(options))


def _hook(item: Hook) -> Mapping[str, Any]:
    out: dict[str, Any] = {"path": item.path}
    if item.args:
        out["args"] = item.args
    if item.env:
        out["env"] = item.env
    if item.timeout is not None:
        out["timeout"] = item.timeout
    return out
