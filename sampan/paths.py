"""Where a cluster keeps its files: one table of paths, shared by commands and daemons.

`data` survives reboots (a cluster's identity, objects, images); `run` does not (sockets, pids,
container state). Everything below `data` is created 0700, every secret 0600.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

DEFAULT_NAME = "default"
REGISTRY_PORT = 5000
# A name becomes part of interface, table and cgroup names, so it is short and plain.
OWN = re.compile(
    r"cluster\.json|join\.json|initialised|simulate|merged\.path|admin\.kubeconfig|(admin|agent)\.token"
    r"|state\.db.*|pki|config|addons|node|nodes|images|containers|build|log"
    r"|\.(cluster\.json|simulate).*|tmp.*\.tar"
)
"""Everything that may stand in a data folder: what a cluster makes there (drafts too), and the
administrator's own two folders. What is named otherwise is somebody else's, and never removed."""
NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?$")


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """All paths of one cluster."""

    name: str
    data: Path
    run: Path
    number: int = 1
    """Of the node on this machine; the first has no folder of its own."""
    shared: Path | None = None
    """Data of the cluster, for the folders that all its nodes on this machine share."""

    def member(self, number: int) -> ClusterPaths:
        """The paths of a node beside the first one on this machine: its identity and state below
        DATA/nodes, and a run folder that no cluster can have (a name has no dots)."""
        folder, run = self.members / str(number), self.run.with_name(f"{self.run.name}.{number}")
        return replace(self, data=folder, run=run, number=number, shared=self.data)

    @property
    def members(self) -> Path:
        """A folder for each further node on this machine, by number: those there are."""
        return self.data / "nodes"

    def member_numbers(self) -> list[int]:
        """The further nodes on this machine, in order."""
        if not self.members.is_dir():
            return []
        return sorted(int(path.name) for path in self.members.iterdir() if path.name.isdecimal())

    def parting(self, number: int) -> Path:
        """There from when a further node is told to go until nothing is left of it, also in the
        API; its name is in it. Whatever ends in between, the next start goes on with it."""
        return self.members / f"{number}.leaving"

    def partings(self) -> list[int]:
        """The further nodes that are told to go, in order."""
        found = self.members.glob("*.leaving")
        return sorted(int(path.stem) for path in found if path.stem.isdecimal())

    def make_member(self, number: int) -> None:
        """The folder of a further node. One that is there stays, and goes on leaving if it does.
        Raises OSError."""
        folder = self.member(number).data
        if not folder.exists():
            # It is another node than the one of its number that has gone.
            self.parting(number).unlink(missing_ok=True)
            folder.mkdir(parents=True, mode=0o700)

    def strangers(self) -> list[str]:
        """What is in the data folder and not a cluster's, in order. Raises OSError."""
        try:
            return sorted(name for name in os.listdir(self.data) if not OWN.fullmatch(name))
        except FileNotFoundError:
            return []

    @property
    def config(self) -> Path:
        """What was chosen at creation (CIDRs, ports): JSON."""
        return self.data / "cluster.json"

    @property
    def order(self) -> Path:
        """Where this machine is a node of a cluster elsewhere: which one (server, token), JSON."""
        return self.data / "join.json"

    @property
    def pki(self) -> Path:
        return self.data / "pki"

    @property
    def settings(self) -> Path:
        """The administrator's own files (docs/identity.md); nothing here is made by us. All nodes
        of the cluster on this machine have the same."""
        return (self.shared or self.data) / "config"

    @property
    def simulation(self) -> Path:
        """What `sampan simulate` was told; absent where no nodes are simulated."""
        return self.data / "simulate"

    @property
    def cni(self) -> Path:
        """The administrator's CNI configuration."""
        return self.settings / "cni"

    @property
    def database(self) -> Path:
        return self.data / "state.db"

    @property
    def node(self) -> Path:
        """The node's own state: pods' volumes, container logs, addresses given out."""
        return self.data / "node"

    @property
    def images(self) -> Path:
        """Of all nodes on this machine: loaded once, on each of them."""
        return (self.shared or self.data) / "images"

    @property
    def registry_settings(self) -> tuple[Path, ...]:
        """Folders that say how registries are reached (docs/images.md): the cluster's own, then
        the machine's, where containerd and docker have theirs."""
        own = self.settings / "certs.d"
        return (own, Path("/etc/containerd/certs.d"), Path("/etc/docker/certs.d"))

    @property
    def logs(self) -> Path:
        """One log file per part."""
        return self.data / "log"

    @property
    def kubeconfig(self) -> Path:
        return self.data / "admin.kubeconfig"

    @property
    def token(self) -> Path:
        return self.data / "admin.token"

    def keep_place(self) -> None:
        """Write into the run folder where the data is, for commands that know the name alone."""
        (self.run / "data").write_text(str(self.data))

    def place(self) -> Path | None:
        """The data folder of the cluster of this name that runs, or was left by a crash; None
        where nothing says so."""
        try:
            found = Path((self.run / "data").read_text())
            return found if found.is_dir() else None
        except OSError:
            return None


def registry_port(slot: int, chosen: int) -> int:
    """Of a cluster's own registry: `chosen` in its file, or by its slot; 0 for none (-1 chosen)."""
    return max(chosen or REGISTRY_PORT + slot, 0)


def cluster_names() -> list[str]:
    """The clusters of this machine, in order: those with data where it is by default, and those
    that run (or were left by a crash), wherever their data is."""
    standard = cluster_paths()
    found: set[str] = set()
    for folder in (standard.data.parent, standard.run.parent):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            found.update(name for name in os.listdir(folder) if NAME.match(name))
    return sorted(found)


def cluster_paths(name: str = DEFAULT_NAME, data: Path | None = None) -> ClusterPaths:
    """The paths of cluster `name`; as root below /var/lib/sampan, else in the user's data folder.

    Raises ValueError when the name could not stand in an interface or cgroup name.
    """
    if not NAME.match(name):
        raise ValueError(f"cluster name {name!r}: use up to 16 of a-z, 0-9 and '-'")
    if os.geteuid() == 0:
        base, run = Path("/var/lib/sampan"), Path("/run/sampan")
    else:
        home = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local/share"))
        base = home / "sampan"
        run = Path(os.environ.get("XDG_RUNTIME_DIR", f"/tmp/sampan-{os.geteuid()}")) / "sampan"
    return ClusterPaths(name, (data or base / name).absolute(), run / name)
