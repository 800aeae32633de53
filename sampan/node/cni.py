"""CNI plugins as a node's pod network, where the administrator has put a configuration.

The first *.conflist or *.conf of DATA/config/cni, in the order of their names, is the chain; in its
text `{{.PodCIDR}}` is this node's share. Programs are looked for in `PATH`. What the last plugin
answered is kept per pod (DATA/node/cni/UID.json; empty while they are asked), since a DEL is owed
for every ADD, also after a reboot (CNI specification 1.0.0, sections 2 to 5). The node's own part
stays ours: gateway address, masquerading, services and policies. Blocking, on the network's worker
thread.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from sampan.linux import netns, rtnetlink
from sampan.linux.netlink import Netlink

from .config import NodeConfig
from .interface import PodAddress
from .plumbing import Networks, Plumbing

log = logging.getLogger("sampan.network")

PATH = ("/opt/cni/bin", "/usr/lib/cni")
PLUGIN_S = 60.0
"""A plugin that takes longer hangs; the pod's start fails and is tried again."""
ANSWER_BYTES = 1 << 20
INTERFACE = "eth0"
DRAFT = ".new"
"""Of an answer that is being written down."""

Result = Mapping[str, Any]


class Chain(Struct, frozen=True):
    """A network configuration: plugins are asked in order, and in reverse to undo."""

    name: str
    version: str
    plugins: Sequence[Mapping[str, Any]]


class PluginFailed(OSError):
    """In libcni's words, with what the plugin said."""


def read_chain(folder: Path, share: str) -> Chain | None:
    """The configuration in force; None without one. Raises ValueError for one that is no good."""
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.iterdir() if path.suffix in (".conflist", ".conf"))
    if not files:
        return None
    try:
        found = json.loads(files[0].read_text().replace("{{.PodCIDR}}", share))
        plugins = found.get("plugins", [found])
        if not plugins or not all(isinstance(item["type"], str) for item in plugins):
            raise ValueError("it has no plugins")
        for item in plugins:
            if "/" in item["type"]:
                raise ValueError(f"{item['type']!r} is no name of a plugin")
        return Chain(str(found["name"]), str(found.get("cniVersion", "0.2.0")), plugins)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{files[0]}: {error}") from error


def addresses_of(result: Result) -> tuple[str, str]:
    """(IPv4, IPv6) of a plugin's answer; "" for what it has not."""
    plain = [str(item["address"]).partition("/")[0] for item in result.get("ips") or ()]
    four = next((ip for ip in plain if ":" not in ip), "")
    return four, next((ip for ip in plain if ":" in ip), "")


class CniPlumbing(Plumbing):
    """One node's pods by plugins; all else as without them."""

    def __init__(self, config: NodeConfig, cluster: str, networks: Networks, chain: Chain) -> None:
        super().__init__(config, cluster, networks)
        self._chain = chain
        self._answers = config.data / "cni"

    def attach(self, uid: str) -> PodAddress:
        self.check_uid(uid)
        self._connect()
        self._answers.mkdir(parents=True, exist_ok=True, mode=0o700)
        path, kept = self._folder / uid, self._answers / f"{uid}.json"
        namespace = netns.open_pinned(path)
        if namespace is not None and (answer := self._answer(uid)):
            os.close(namespace)
            return PodAddress(path, *addresses_of(answer))
        if kept.exists():
            # Of before a reboot, or of an agent that was killed while it asked: what the plugins
            # gave is still taken.
            self._undo(uid, path)
        if namespace is None:
            namespace = netns.create(path, self._home)
        try:
            with netns.inside(namespace, self._home):
                self.prepare_pod()
                inner = Netlink()
            with inner:
                inner.request(rtnetlink.set_up(1))
        finally:
            os.close(namespace)
        # From here on a DEL is owed, whatever becomes of this agent.
        kept.touch()
        try:
            result = self._do(uid, path)
        except BaseException:
            self._undo(uid, path)
            netns.remove(path)
            raise
        draft = kept.with_suffix(DRAFT)
        draft.write_text(json.dumps(result))
        draft.rename(kept)
        return PodAddress(path, *addresses_of(result))

    def detach(self, uid: str) -> None:
        path = self._folder / uid
        if (self._answers / f"{uid}.json").exists():
            self._undo(uid, path)
        netns.remove(path)

    def retain(self, uids: frozenset[str]) -> None:
        self._connect()
        for uid in self._present() - uids:
            self.detach(uid)

    def purge(self) -> None:
        self._connect()
        for uid in self._present():
            self.detach(uid)
        super().purge()

    def _present(self) -> set[str]:
        found = {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else set()
        if self._answers.is_dir():
            found |= {path.stem for path in self._answers.glob("*.json")}
        return found

    def refuse_unused(self) -> None:
        """Plugins that make a bridge route the whole share to it; nothing may stand before that."""

    def _answer(self, uid: str) -> Result:
        """What the plugins gave the pod; nothing where that is not known."""
        try:
            found = json.loads((self._answers / f"{uid}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _do(self, uid: str, path: Path) -> Result:
        result: Result = {}
        for plugin in self._chain.plugins:
            result = call(self._chain, plugin, "ADD", (uid, path), result)
        if not addresses_of(result)[0]:
            raise PluginFailed(f"network {self._chain.name!r} gives no IPv4 address")
        return result

    def _undo(self, uid: str, path: Path) -> None:
        """DEL has to work whatever is there; a plugin that fails keeps no other from it."""
        kept = self._answers / f"{uid}.json"
        result = self._answer(uid)
        for plugin in reversed(self._chain.plugins):
            try:
                call(self._chain, plugin, "DEL", (uid, path), result)
            except OSError as error:
                log.warning("pod %s: %s", uid, error)
        for path in (kept, kept.with_suffix(DRAFT)):
            path.unlink(missing_ok=True)


def call(
    chain: Chain,
    plugin: Mapping[str, Any],
    command: str,
    pod: tuple[str, Path],
    before: Result,
) -> Result:
    """One plugin's answer to a command. Raises PluginFailed."""
    kind, (uid, path) = plugin["type"], pod
    what = f'plugin type="{kind}" failed ({command.lower()})'
    program = next((Path(at, kind) for at in PATH if os.access(Path(at, kind), os.X_OK)), None)
    if program is None:
        raise PluginFailed(f'{what}: failed to find plugin "{kind}" in path {list(PATH)}')
    config = {**plugin, "name": chain.name, "cniVersion": chain.version}
    if before:
        config["prevResult"] = before
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": uid,
        "CNI_NETNS": str(path) if path.exists() else "",
        "CNI_IFNAME": INTERFACE,
        "CNI_PATH": ":".join(PATH),
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_UID={uid}",
    }
    try:
        run = subprocess.run(
            [program],
            input=json.dumps(config).encode(),
            capture_output=True,
            timeout=PLUGIN_S,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise PluginFailed(f"{what}: it did not end within {PLUGIN_S:.0f} s") from None
    try:
        answer = json.loads(run.stdout[:ANSWER_BYTES] or b"{}")
    except ValueError:
        answer = {"msg": run.stdout[:200].decode(errors="replace")}
    if run.returncode:
        said = ": ".join(str(answer[key]) for key in ("msg", "details") if answer.get(key))
        raise PluginFailed(f"{what}: {said or run.stderr[:200].decode(errors='replace')}")
    return answer if isinstance(answer, dict) else {}
