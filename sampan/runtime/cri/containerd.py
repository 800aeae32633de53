"""A containerd for one cluster: its files, its process, and calls to it.

It is started by the node process and outlives it, as its containers do; the next node process finds
it by its socket. Its root is below the node's data, its state below RUN. Pods' networks are made by
Sampan before: the plugin that containerd calls puts the pod's own namespace where containerd has
just made an empty one. No address of the plugin's answer is used by anybody.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sampan.aio.grpc import UNAVAILABLE, Peer, RpcError
from sampan.wire.messages import decode, encode

from ...linux import processes
from ..interface import RuntimeFailure
from .schemas import CALLS

log = logging.getLogger("sampan.runtime.cri")

NAMESPACE = "k8s.io"
"""Of containerd, where its CRI plugin keeps everything."""
PAUSE_IMAGE = "sampan.local/pause:1"
CALL_S = 120.0
PULL_S = 3600.0
START_S = 20.0
LOOK_S = 0.02

CONFIG = """\
version = 2
root = {root}
state = {state}
disabled_plugins = [{disabled}]
[grpc]
  address = {socket}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # A machine may forbid what would only be a hint to its OOM killer.
  restrict_oom_score_adj = true
  disable_apparmor = {no_apparmor}
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {certs}
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = {crun}
      Root = {crun_root}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni}
    conf_dir = {cni}
"""
DISABLED = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt",
)
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "sampan",
    "plugins": [{"type": "sampan"}],
}
PLUGIN = """\
#!/bin/sh
# Puts the pod's network namespace, which Sampan has made, in the place of the new one.
uid=$(printf %s "$CNI_ARGS" | tr ';' '\\n' | sed -n 's/^K8S_POD_UID=//p')
case "$CNI_COMMAND" in
VERSION) echo '{{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}}' ;;
ADD)
    [ "${{0##*/}}" = loopback ] || mount --bind "$(cat {pods}/"$uid")" "$CNI_NETNS" || exit 1
    printf '{{"cniVersion":"0.4.0","interfaces":[{{"name":"%s","sandbox":"%s"}}],' \\
        "$CNI_IFNAME" "$CNI_NETNS"
    echo '"ips":[{{"version":"4","address":"192.0.2.1/32","interface":0}}]}}' ;;
DEL) [ "${{0##*/}}" = loopback ] || [ -z "$CNI_NETNS" ] || umount "$CNI_NETNS" 2>/dev/null ;;
esac
exit 0
"""


_IMPORTED = re.compile(r"^unpacking (\S+) ", re.MULTILINE)


class Containerd:
    """`open` before anything else."""

    def __init__(self, data: Path, run: Path, certs: tuple[Path, ...] = ()) -> None:
        self._root = data / "containerd"
        self._run = run / "containerd"
        self._certs = certs
        self.pods = self._run / "pods"
        """POD_UID -> a file with the path of its network namespace."""
        self.socket = self._run / "containerd.sock"
        self._peer = Peer(self.socket)
        self._opening = asyncio.Lock()
        self._pause: bytes | None = None
        self.version = ""
        """The server's own, once it answers."""

    async def open(self, pause: bytes) -> None:
        """Find it running, or start it; `pause` is an archive of the sandboxes' image.
        Raises RuntimeFailure."""
        async with self._opening:
            self._pause = pause
            try:
                if not await self._answers():
                    await asyncio.to_thread(self._start)
                    await self._wait()
                    await self._load_pause(pause)
            except (OSError, RpcError) as error:
                raise RuntimeFailure(f"containerd does not start: {error}") from error

    async def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            self.version = (await self._call("Version", CALL_S, {}))["runtime_version"]
        except RpcError as error:
            if error.code != UNAVAILABLE:
                raise
            self._peer.close()
            return False
        return True

    def _start(self) -> None:
        if shutil.which("containerd") is None:
            raise RuntimeFailure(
                "containerd is missing; install it with: apt-get install containerd"
            )
        self.pods.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        cni = self._run / "cni"
        cni.mkdir(exist_ok=True)
        for name in ("sampan", "loopback"):
            (cni / name).write_text(PLUGIN.format(pods=self.pods))
            (cni / name).chmod(0o755)
        (cni / "sampan.conflist").write_text(json.dumps(NETWORK))
        config = self._run / "config.toml"
        config.write_text(
            CONFIG.format(
                root=_quote(self._root),
                state=_quote(self._run / "state"),
                socket=_quote(self.socket),
                disabled=", ".join(map(_quote, DISABLED)),
                pause=PAUSE_IMAGE,
                no_apparmor=str(not Path("/sys/module/apparmor").exists()).lower(),
                certs=_quote(":".join(map(str, self._certs))),
                crun=_quote(shutil.which("crun") or "runc"),
                crun_root=_quote(self._run / "crun"),
                cni=_quote(cni),
            )
        )
        with open(self._run / "log", "ab") as log:
            # Nobody's child: it lives on when this process ends.
            subprocess.run(
                ("setsid", "--fork", "containerd", "--config", str(config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )

    async def _wait(self) -> None:
        async with asyncio.timeout(START_S):
            # It makes its socket before it serves: nothing tells when it does.
            while not await self._answers():  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)

    async def _load_pause(self, archive: bytes) -> None:
        path = self._run / "pause.tar"
        path.write_bytes(archive)
        await self.load(path)

    async def load(self, archive: Path) -> Sequence[str]:
        """Import an archive of images; the names of what was in it. Raises RuntimeFailure."""
        return _IMPORTED.findall(await self._ctr("images", "import", str(archive)))

    async def layers(self, chain: str) -> Sequence[Path]:
        """Where the layers up to this chain id are, uppermost first. Raises RuntimeFailure."""
        view = f"sampan-{secrets.token_hex(8)}"
        text = await self._ctr("snapshots", "view", "--mounts", view, chain)
        # The image holds what is below. Its collector may have taken the view already.
        with suppress(RuntimeFailure):
            await self._ctr("snapshots", "rm", view)
        return layers_of(json.loads(text))

    async def _ctr(self, *words: str) -> str:
        child = await asyncio.create_subprocess_exec(
            "ctr", "--address", str(self.socket), "--namespace", NAMESPACE, *words,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await child.communicate()
        text = output.decode(errors="replace").strip()
        if child.returncode:
            raise RuntimeFailure(f"ctr {' '.join(words[:2])}: {text}")
        return text

    async def call(self, name: str, timeout_s: float = CALL_S, **message: Any) -> dict[str, Any]:
        """One call of the table; a server that has died is started again. Raises RpcError."""
        try:
            return await self._call(name, timeout_s, message)
        except RpcError as error:
            if error.code != UNAVAILABLE or self._pause is None:
                raise
            log.warning("containerd is started again: %s", error)
        try:
            await self.open(self._pause)
        except RuntimeFailure as error:
            raise RpcError(UNAVAILABLE, str(error)) from error
        return await self._call(name, timeout_s, message)

    async def _call(
        self, name: str, timeout_s: float, message: Mapping[str, Any]
    ) -> dict[str, Any]:
        service, asked, answered = CALLS[name]
        method = f"{service}{name}"
        return decode(answered, await self._peer.call(method, encode(asked, message), timeout_s))

    @property
    def peer(self) -> Peer:
        return self._peer

    def close(self) -> None:
        """Containers and containerd live on."""
        self._pause = None
        self._peer.close()

    async def end(self) -> None:
        """End it; its containers have to be gone."""
        self.close()
        try:
            pid = _pid_behind(self.socket)
            os.kill(pid, signal.SIGTERM)
            async with asyncio.timeout(START_S):
                while processes.start_ticks(pid):
                    processes.reap(pid)
                    await asyncio.sleep(LOOK_S)
        except (OSError, TimeoutError):
            pass
        await asyncio.to_thread(shutil.rmtree, self._run, ignore_errors=True)


def layers_of(mounts: Sequence[Mapping[str, Any]]) -> Sequence[Path]:
    """The folders that a read-only snapshot consists of: one is bound, several are stacked."""
    (mount,) = mounts
    if mount["Type"] == "bind":
        return [Path(mount["Source"])]
    for option in mount["Options"]:
        if option.startswith("lowerdir="):
            return [Path(path) for path in option.removeprefix("lowerdir=").split(":")]
    raise RuntimeFailure(f"a snapshot of an unknown kind: {mount['Type']}")


def _pid_behind(path: Path) -> int:
    """Who listens on a socket. Raises OSError."""
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            # By descriptor: a path may be longer than a socket's address.
            peer.connect(f"/proc/self/fd/{folder}/{path.name}")
            asked = struct.calcsize("3i")
            pid, _, _ = struct.unpack(
                "3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, asked)
            )
            return int(pid)
    finally:
        os.close(folder)


def _quote(value: object) -> str:
    """A TOML string."""
    return json.dumps(str(value))
