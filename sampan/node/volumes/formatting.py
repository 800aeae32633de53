"""File systems on block devices: one is made where there is none, and mounted, with the machine's
own programs as upstream does (k8s.io/mount-utils SafeFormatAndMount). Loaded with the first such
volume; synchronous, and slow while it makes one: to be called in a thread.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from .source import VolumeError

DEFAULT_TYPE = "ext4"
PROGRAM_S = 600.0
"""How long one of the programs may take."""
NOTHING_FOUND = 2
"""What blkid ends with when it knows nothing of a device."""
ARGUMENTS = {"ext3": ("-F", "-m0"), "ext4": ("-F", "-m0"), "xfs": ("-f",)}


def format_and_mount(device: Path, target: Path, kind: str, options: Sequence[str]) -> None:
    """Mount the device; one that holds anything is never written over. Raises VolumeError."""
    kind = kind or DEFAULT_TYPE
    found = filesystem_of(device)
    if not found:
        if "ro" in options:
            raise VolumeError(f"cannot mount unformatted disk {device} as it is read-only")
        _run(f"mkfs.{kind}", *ARGUMENTS.get(kind, ()), str(device))
    shown = ("-o", ",".join(options)) if options else ()
    try:
        _run("mount", "-t", kind, *shown, str(device), str(target))
    except VolumeError as error:
        if found and found != kind:
            text = f'failed to mount the volume as "{kind}", it already contains {found}. '
            raise VolumeError(f"{text}Mount error: {error}") from error
        raise


def filesystem_of(device: Path) -> str:
    """What the device holds: a type, something unknown, or "" for nothing. Raises VolumeError."""
    done = _call("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", str(device))
    if done.returncode == NOTHING_FOUND:
        return ""
    if done.returncode:
        raise VolumeError(f"blkid failed: {done.stdout.strip()}")
    told = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    if told.get("PTTYPE"):
        return "unknown data, probably partitions"
    return told.get("TYPE", "")


def _run(*arguments: str) -> None:
    done = _call(*arguments)
    if done.returncode:
        text = f"{arguments[0]} failed: exit status {done.returncode}\n"
        raise VolumeError(f"{text}Arguments: {' '.join(arguments[1:])}\nOutput: {done.stdout}")


def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PROGRAM_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VolumeError(f"{arguments[0]}: {error}") from error
