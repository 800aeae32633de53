"""Talking to a running cluster's supervisor: a line of JSON now and after each change."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from sampan.paths import ClusterPaths

from .options import fail, make_data

Status = dict[str, Any]

START_TIMEOUT_S = 60.0
"""A part that neither gets ready nor fails within this is reported as stuck."""

STOP_TIMEOUT_S = 30.0
"""Why a start failed is said after this at the latest, even if the rest has not ended."""


def connect(paths: ClusterPaths) -> socket.socket | None:
    """A connection to the supervisor; None when the cluster is not running."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.connect(str(paths.run / "sampan.sock"))
    except (FileNotFoundError, ConnectionRefusedError):
        link.close()
        return None
    return link


def start(
    paths: ClusterPaths, listen: str, nodes: int = 0, *, foreground: bool, runtime: str = ""
) -> socket.socket:
    """Start a supervisor; the connection it was born with (nothing to wait for or to race)."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", "sampan", "supervise", "--name", paths.name]
    command += ["--data", str(paths.data), "--client", str(theirs.fileno())]
    if listen:
        command += ["--listen", listen]
    if nodes:
        command += ["--nodes", str(nodes)]
    if runtime:
        command += ["--runtime", runtime]
    make_data(paths)
    paths.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The parts inherit this: compiled modules are kept on disk, whoever started us, since compiling
    # them at each start would take longer than all the rest of the boot.
    keep = {key: val for key, val in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with open(paths.logs / "supervisor.log", "ab") as log:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(theirs.fileno(),),
            start_new_session=not foreground,
            cwd="/",
            env=keep,
        )
    theirs.close()
    return ours


def statuses(link: socket.socket, timeout_s: float | None = None) -> Iterator[Status]:
    """Each status as it comes, until the supervisor ends. Raises TimeoutError when that, or the
    caller's interest, has not come to an end `timeout_s` from now."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    buffer = b""
    while True:
        if end is not None:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            link.settimeout(left)
        try:
            data = link.recv(65536)
        except ConnectionResetError:
            # It ended with what we had asked of it, or our connection itself, still unread.
            return
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


def status_of(link: socket.socket) -> Status:
    """As it is now. Ends the command when the supervisor ends or has no ear for one more."""
    status = next(statuses(link), None)
    if status is None:
        fail("the cluster is ending, or asked by too many at once; see 'sampan logs'")
    return status


def url_of(status: Status) -> str:
    """Where its API server is, "" until that is known. Ends the command where none runs here."""
    control = status["parts"].get("control")
    if control is None:
        fail("this machine is a node of a cluster elsewhere; ask where its API server runs")
    return str(control.get("url", ""))


def wait_end(link: socket.socket) -> None:
    """Until the supervisor is gone, with all it has to take away; a start may follow at once."""
    with contextlib.suppress(TimeoutError):
        for _ in statuses(link, STOP_TIMEOUT_S):
            pass


def is_ready(status: Status) -> bool:
    return all(part["state"] == "ready" for part in status["parts"].values())


def failure(status: Status) -> str:
    """Why a part can not start, "" while there is hope."""
    for part in status["parts"].values():
        if part["state"] == "failed":
            return str(part["error"] or "see 'sampan logs'")
    return ""
