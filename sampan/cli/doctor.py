"""`sampan doctor`: is this machine fit to run containers? Each line is ok, or says what to do.

`CHECKS` is the ordered table; a check is a function that returns "" when all is well, or what is
wrong and how to mend it. Nothing is changed on the machine.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from .options import Json

CGROUP = Path("/sys/fs/cgroup")
V1_CONTROLLERS = ("cpu", "memory", "pids", "devices", "freezer")
# Bits of the effective capability set (linux/capability.h) that running containers takes.
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
NAMESPACES = ("mnt", "net", "pid", "ipc", "uts")
INOTIFY_WATCHES = 8192
INOTIFY_INSTANCES = 128
PORTS = {6443: "the API server", 10250: "the node agent"}
# Names of the devices that pods hang off the node by.
PODS = "sv*"
CLONE_NEWNS = 0x20000


def root() -> str:
    return "" if os.geteuid() == 0 else "not root: run with sudo"


def capabilities() -> str:
    line = next(
        row
        for row in Path("/proc/self/status").read_text().splitlines()
        if row.startswith("CapEff")
    )
    bits = int(line.split()[1], 16)
    missing = [name for name, bit in CAPABILITIES.items() if not bits >> bit & 1]
    return f"missing {', '.join(missing)}: run with more privileges" if missing else ""


def cgroups() -> str:
    if (CGROUP / "cgroup.controllers").exists():
        have = (CGROUP / "cgroup.controllers").read_text().split()
        missing = [name for name in ("cpu", "memory", "pids") if name not in have]
    else:
        missing = [name for name in V1_CONTROLLERS if not (CGROUP / name).is_dir()]
    if missing:
        return f"no cgroup controller {', '.join(missing)}: mount cgroup v2 at {CGROUP}"
    return ""


def namespaces() -> str:
    missing = [name for name in NAMESPACES if not Path(f"/proc/self/ns/{name}").exists()]
    if missing:
        return f"the kernel has no {', '.join(missing)} namespaces"
    return _in_child(lambda: _call("unshare", CLONE_NEWNS))


def overlay() -> str:
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system: modprobe overlay"
    return ""


def nftables() -> str:
    nft = shutil.which("nft")
    if nft is None:
        return "nft is missing: apt-get install nftables"
    run = subprocess.run([nft, "list", "tables"], capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else f"nft does not work: {run.stderr.strip()}"


def crun() -> str:
    return _program("crun", "crun")


def conmon() -> str:
    return _program("conmon", "conmon")


def forwarding() -> str:
    path = Path("/proc/sys/net/ipv4/ip_forward")
    if path.read_text().strip() == "1" or os.access(path, os.W_OK):
        return ""
    return "IP forwarding is off and cannot be turned on: sysctl -w net.ipv4.ip_forward=1"


def look_at_chains() -> subprocess.Popen[str] | None:
    """Ask nft while something else is done; `firewall` reads what it says. None without nft."""
    path = shutil.which("nft")
    if path is None:
        return None
    command = [path, "-j", "list", "chains"]
    silent = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=silent, stdout=subprocess.PIPE, stderr=silent, text=True)


def firewall(looking: subprocess.Popen[str] | None = None) -> str:
    """Pods' packets are forwarded, and every chain at that hook has to let them through: Docker's
    and firewalls' drop what they do not know. Theirs are not ours to change."""
    asked = looking or look_at_chains()
    listing = asked.communicate()[0] if asked is not None else ""
    for family, table, name in dropping_chains(json.loads(listing or "{}")):
        if f'"{PODS}"' not in _rules(family, table, name):
            rule = f"nft insert rule {family} {table} {name}"
            return (
                f"chain {name} of table {family} {table} drops pods' traffic: "
                f"{rule} iifname '{PODS}' accept; {rule} oifname '{PODS}' accept"
            )
    return ""


def dropping_chains(listing: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Chains of others that drop what is forwarded, by `nft -j list chains`."""
    for item in listing.get("nftables", ()):
        chain = item.get("chain") or {}
        drops = chain.get("hook") == "forward" and chain.get("policy") == "drop"
        if drops and not chain["table"].startswith("sampan-"):
            yield chain["family"], chain["table"], chain["name"]


def ports() -> str:
    for port, what in PORTS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return f"port {port} ({what}) is in use: stop what uses it, or use --listen"
    return ""


def inotify() -> str:
    limits = Path("/proc/sys/fs/inotify")
    for name, least in (
        ("max_user_watches", INOTIFY_WATCHES),
        ("max_user_instances", INOTIFY_INSTANCES),
    ):
        have = int((limits / name).read_text())
        if have < least:
            return f"fs.inotify.{name} is {have}: sysctl -w fs.inotify.{name}={least}"
    return ""


def disk() -> str:
    place = "/var/lib" if os.geteuid() == 0 else tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    return "" if free > 1 << 30 else f"{place} has {free >> 20} MiB left: make room"


CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("root", root),
    ("capabilities", capabilities),
    ("cgroups", cgroups),
    ("namespaces", namespaces),
    ("overlay", overlay),
    ("nftables", nftables),
    ("crun", crun),
    ("conmon", conmon),
    ("ip forwarding", forwarding),
    ("firewall", firewall),
    ("ports", ports),
    ("inotify limits", inotify),
    ("disk", disk),
)


def _rules(family: str, table: str, name: str) -> str:
    """Of a chain, as nft prints them."""
    command = ["nft", "list", "chain", family, table, name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        return f"{name} is missing: apt-get install {package}"
    run = subprocess.run([path, "--version"], capture_output=True, check=False)
    return "" if run.returncode == 0 else f"{path} --version fails: reinstall {package}"


def _call(name: str, *arguments: int) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        return f"{name} fails: {os.strerror(ctypes.get_errno())}"
    return ""


def _in_child(check: Callable[[], str]) -> str:
    """Run a check that changes its process in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, check().encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read().decode()


def examine(check: Callable[[], str]) -> str:
    try:
        return check()
    except OSError as error:
        return f"cannot be checked: {error}"


def doctor(json_output: Json = False) -> None:
    """Check whether this machine can run a cluster. Exit code 1 when something is missing."""
    found = {name: examine(check) for name, check in CHECKS}
    if json_output:
        print(json.dumps([{"check": name, "problem": text} for name, text in found.items()]))
    else:
        for name, text in found.items():
            print(f"{name:16}{text or 'ok'}")
    if any(found.values()):
        raise typer.Exit(1)
