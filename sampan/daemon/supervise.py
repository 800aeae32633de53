"""The parent of a cluster's processes: starts them in order, restarts them, answers for them.

Only the standard library, and little of it: this process is there for as long as the cluster is and
should weigh next to nothing. One thread, one selector; everything is an event (a child's pipe, a
child's end, a line on the control socket, a timer for the next restart).

Boot order: both processes start at once, since each spends most of its time loading code. The node
process waits at its `go` pipe until the control plane listens, because a first connection that is
refused would cost it a back-off.

Further nodes on this machine are parts too, one per folder in DATA/nodes; they go when the first
node is ready, whose bridge they hang on. One that is marked there as leaving is only cleaned away.

The socket RUN/sampan.sock: who connects gets a JSON line with the whole status now and after each
change. Who writes "down" ends the cluster, "add 2" and "remove 2" begin and end a further node,
whose part is in the status while there is anything of it. At most `CLIENTS` connections; a further
one is closed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sampan.paths import ClusterPaths, cluster_paths

PARTS = ("control", "node")
NODE = "node-process"
"""What `sampan` is told to become a node: "node" is a person's word."""
MEMBERS = 63
"""Nodes beside the first: what a machine's memory and a person's patience allow."""
CLIENTS = 32
STOP_S = 15.0
"""How long a part may take to end after SIGTERM before SIGKILL."""
BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
"""How long a part that ended stays down, by how often it ended without having held."""
STEADY_S = 10.0
"""A part that ends by itself this soon after it was ready has not held: what ended it (a full disk)
is likely to be there still."""
REFUSED = 3
"""Exit code of a part that cannot start whatever is tried again (damaged data, port in use)."""


@dataclass
class Part:
    name: str
    number: int = 1
    """Of the node; the first is what every cluster has."""
    leaving: bool = False
    """To be stopped, and then cleaned away for good."""
    process: subprocess.Popen[bytes] | None = None
    pipe: int = -1
    go: int = -1
    state: str = "stopped"
    error: str = ""
    detail: dict[str, object] = field(default_factory=dict)
    failures: int = 0
    """In a row, without having held."""
    ready_at: float = 0.0
    restarts: int = 0
    restart_at: float = 0.0

    def has_held(self, code: int) -> bool:
        """Has it been well until it ended with `code`? A signal (below 0) is somebody else's."""
        steady = time.monotonic() - self.ready_at >= STEADY_S
        return self.state == "ready" and (code < 0 or steady)

    @property
    def is_vital(self) -> bool:
        """Without it there is no cluster; a further node may fail alone."""
        return self.number == 1


def further_node(number: int) -> Part:
    return Part(f"node-{number}", number)


class Cluster:
    """All state of the supervisor. `run` returns the exit code."""

    def __init__(self, paths: ClusterPaths, client: int = -1) -> None:
        """Where this machine joined a cluster elsewhere there is a node alone."""
        self.paths = paths
        self.first_client = client
        self.joined = paths.order.exists()
        vital = PARTS[1:] if self.joined else PARTS
        parts = [*map(Part, vital), *map(further_node, paths.member_numbers())]
        self.parts = {part.name: part for part in parts}
        for part in parts:
            # Of a supervisor that was killed before the node had gone.
            part.leaving = not part.is_vital and paths.parting(part.number).exists()
        self.selector = selectors.DefaultSelector()
        self.began = time.monotonic()
        self.ready_s = 0.0
        self.stopping = False
        self.code = 0
        self.listening = self.joined
        self.bridged = False
        """The first node has been ready, so its bridge is there."""
        self.clients: set[socket.socket] = set()

    def run(self) -> int:
        self.paths.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.paths.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.paths.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"cluster {self.paths.name} is already running", file=sys.stderr)
            return 1
        self.paths.keep_place()
        server = self._listen()
        self._catch_signals()
        if self.first_client >= 0:
            self._greet(socket.socket(fileno=self.first_client))
        for part in tuple(self.parts.values()):
            self._start(part)
        try:
            while not self.stopping:
                self._turn()
        finally:
            # Whatever went wrong here: nobody else would stop them.
            self.stopping = True
            self._stop_parts()
        with contextlib.suppress(OSError):
            os.unlink(self.paths.run / "sampan.sock")
        self._cleanup()
        self._broadcast()
        server.close()
        return self.code

    def _listen(self) -> socket.socket:
        path = self.paths.run / "sampan.sock"
        path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        server.bind(str(path))
        os.umask(old)
        server.listen(CLIENTS)
        server.setblocking(False)
        self.selector.register(server, selectors.EVENT_READ, lambda: self._accept(server))
        return server

    def _catch_signals(self) -> None:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._end(0))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(read, selectors.EVENT_READ, lambda: self._reap(read))

    def _end(self, code: int) -> None:
        self.stopping = True
        self.code = self.code or code

    # Parts

    def _start(self, part: Part) -> None:
        pipe, child_pipe = os.pipe2(os.O_CLOEXEC)
        child_go, part.go = os.pipe2(os.O_CLOEXEC)
        paths = self.paths
        kind = "cleanup" if part.leaving else "control" if part.name == "control" else NODE
        command = [sys.executable, "-P", "-m", "sampan", kind, "--name", paths.name]
        command += ["--data", str(paths.data)]
        if not part.is_vital:
            command += ["--number", str(part.number)]
        if not part.leaving:
            command += ["--pipe", str(child_pipe), "--go", str(child_go)]
        try:
            with open(paths.logs / f"{part.name}.log", "ab", opener=_private) as log:
                part.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(child_pipe, child_go),
                )
        except OSError as error:
            # No process or no disk is to be had now: that passes, and the other parts go on.
            os.close(pipe)
            os.close(part.go)
            part.go, part.error = -1, str(error)
            part.state = "leaving" if part.leaving else "restarting"
            self._start_later(part)
            self._broadcast()
            return
        finally:
            os.close(child_pipe)
            os.close(child_go)
        part.pipe, part.error = pipe, ""
        part.state = "leaving" if part.leaving else "starting"
        part.detail = {}
        part.restart_at = 0.0
        self._let_go(part)
        self.selector.register(pipe, selectors.EVENT_READ, lambda: self._hear(part))
        self._broadcast()

    def _hear(self, part: Part) -> None:
        """Lines a part says of itself: {"state": ...} with details, or {"error": ...}."""
        data = os.read(part.pipe, 65536)
        if not data:
            self.selector.unregister(part.pipe)
            os.close(part.pipe)
            part.pipe = -1
            return
        for line in data.splitlines():
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if said.get("state") == "ready" and part.state != "ready":
                    part.ready_at = time.monotonic()
                part.state = said.pop("state", part.state)
                # What failed once is no news any more when the part is ready.
                part.error = said.pop("error", "" if part.state == "ready" else part.error)
                part.detail.update(said)
        if part.name == "control" and part.state in ("listening", "ready") and not self.listening:
            self.listening = True
            self._let_go(*self.parts.values())
        if part.name == "node" and part.state == "ready" and not self.bridged:
            self.bridged = True
            self._let_go(*self.parts.values())
        staying = (item for item in self.parts.values() if not item.leaving)
        if not self.ready_s and all(item.state == "ready" for item in staying):
            self.ready_s = time.monotonic() - self.began
        self._broadcast()

    def _may_go(self, part: Part) -> bool:
        return part.name == "control" or (self.listening and (part.is_vital or self.bridged))

    def _let_go(self, *parts: Part) -> None:
        for part in parts:
            if part.go >= 0 and self._may_go(part):
                with contextlib.suppress(OSError):
                    os.write(part.go, b"g")

    def _reap(self, wakeup: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 4096)
        for part in tuple(self.parts.values()):
            if part.process is not None and part.process.poll() is not None:
                self._ended(part, part.process.returncode)

    def _ended(self, part: Part, code: int) -> None:
        if part.pipe >= 0:
            self._hear_rest(part)
        os.close(part.go)
        part.process, part.go = None, -1
        if part.name == "control":
            self.listening = False
        if part.leaving and not self.stopping:
            self._left(part)
        elif code == REFUSED and not self.stopping:
            part.state = "failed"
            if part.is_vital:
                self._end(1)
        elif not self.stopping:
            if part.has_held(code):
                part.failures = 0
            part.restarts += 1
            part.state = "restarting"
            delay = self._start_later(part)
            _tell(f"{part.name} ended with {code}; again in {delay} s")
        self._broadcast()

    def _start_later(self, part: Part) -> float:
        """The more often it failed in a row, the later; in how many seconds."""
        delay = BACKOFF_S[min(part.failures, len(BACKOFF_S) - 1)]
        part.failures += 1
        part.restart_at = time.monotonic() + delay
        return delay

    # Further nodes

    def _add(self, number: int) -> None:
        part = further_node(number)
        if not 1 < number <= MEMBERS + 1 or part.name in self.parts:
            return
        self.parts[part.name] = part
        try:
            self.paths.make_member(number)
        except OSError as error:
            part.state, part.error = "failed", str(error)
            self._broadcast()
        else:
            self._start(part)

    def _remove(self, number: int) -> None:
        """Stop the node; its end goes on in `_left`."""
        part = self.parts.get(f"node-{number}")
        if part is None or part.is_vital or part.leaving:
            return
        part.leaving, part.state, part.restart_at, part.failures = True, "leaving", 0.0, 0
        with contextlib.suppress(OSError):
            # On a full disk only a start in the middle of it would not know.
            self.paths.parting(number).write_text(str(part.detail.get("node", "")))
        if part.process is not None:
            part.process.terminate()
        else:
            self._start(part)
        self._broadcast()

    def _left(self, part: Part) -> None:
        """After the node's process comes that which cleans up, again while it fails; after that
        nothing is left."""
        if self.paths.member(part.number).data.exists():
            self._start_later(part)
        else:
            del self.parts[part.name]

    def _hear_rest(self, part: Part) -> None:
        os.set_blocking(part.pipe, False)
        with contextlib.suppress(BlockingIOError):
            while part.pipe >= 0:
                self._hear(part)
        if part.pipe >= 0:
            self.selector.unregister(part.pipe)
            os.close(part.pipe)
            part.pipe = -1

    def _stop_parts(self) -> None:
        """The node first: what it still reports needs the API server."""
        control = self.parts.get("control")
        nodes = [part for part in self.parts.values() if part is not control]
        for part in nodes:
            # One that cleans up may as well end with that.
            if part.process is not None and part.state != "leaving":
                part.process.terminate()
        for part in nodes:
            self._wait_for(part)
        if control is not None and control.process is not None:
            control.process.terminate()
            self._wait_for(control)

    def _wait_for(self, part: Part) -> None:
        if part.process is None:
            return
        try:
            # A node that ends its pods first says how long that may take.
            part.process.wait(STOP_S + float(str(part.detail.get("stopping_s", 0))))
        except subprocess.TimeoutExpired:
            part.process.kill()
            part.process.wait()
        if part.state != "failed":
            part.state = "stopped"

    def _cleanup(self) -> None:
        """Stop what the cluster still runs on this machine (containers, network, mounts)."""
        paths = self.paths
        command = [sys.executable, "-P", "-m", "sampan", "cleanup", "--name", paths.name]
        with open(paths.logs / "cleanup.log", "ab", opener=_private) as log:
            subprocess.run(
                [*command, "--data", str(paths.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )

    # The socket

    def status(self) -> dict[str, object]:
        return {
            "name": self.paths.name,
            "data": str(self.paths.data),
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self.began, 3),
            "ready_s": round(self.ready_s, 3),
            "stopping": self.stopping,
            "parts": {
                part.name: {
                    "state": part.state,
                    "pid": part.process.pid if part.process else 0,
                    "restarts": part.restarts,
                    "error": part.error,
                    **part.detail,
                }
                for part in self.parts.values()
            },
        }

    def _accept(self, server: socket.socket) -> None:
        # Who has gone again by now is no reason to end.
        with contextlib.suppress(OSError):
            self._greet(server.accept()[0])

    def _greet(self, client: socket.socket) -> None:
        if len(self.clients) >= CLIENTS:
            client.close()
            return
        client.setblocking(False)
        self.clients.add(client)
        self.selector.register(client, selectors.EVENT_READ, lambda: self._command(client))
        self._say(client, self._line())

    def _line(self) -> bytes:
        return json.dumps(self.status()).encode() + b"\n"

    def _command(self, client: socket.socket) -> None:
        try:
            data = client.recv(4096)
        except OSError:
            data = b""
        if not data:
            self._hang_up(client)
        for line in data.splitlines():
            verb, _, number = line.decode(errors="replace").partition(" ")
            if verb == "down":
                self._end(0)
            elif verb in ("add", "remove") and number.isdecimal() and not self.stopping:
                (self._add if verb == "add" else self._remove)(int(number))

    def _say(self, client: socket.socket, line: bytes) -> None:
        try:
            client.sendall(line)
        except OSError:
            # Gone, or so slow that its buffer is full: either way not waited for.
            self._hang_up(client)

    def _hang_up(self, client: socket.socket) -> None:
        if client in self.clients:
            self.clients.discard(client)
            self.selector.unregister(client)
            client.close()

    def _broadcast(self) -> None:
        line = self._line()
        for client in tuple(self.clients):
            self._say(client, line)

    # The loop

    def _turn(self) -> None:
        due = [part.restart_at for part in self.parts.values() if part.restart_at]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in self.selector.select(timeout):
            handler: Callable[[], None] = key.data
            handler()
        for part in tuple(self.parts.values()):
            if part.restart_at and part.restart_at <= time.monotonic() and not self.stopping:
                self._start(part)


def _tell(text: str) -> None:
    """To the log. Where the disk is full nothing can be told, and everything goes on."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def main(arguments: list[str]) -> int:
    """Run the cluster until it is told to stop; the process's exit code."""
    parser = argparse.ArgumentParser(prog="sampan supervise")
    parser.add_argument("--name", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--listen", default="")
    parser.add_argument("--client", type=int, default=-1)
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--runtime", default="")
    options = parser.parse_args(arguments)
    paths = cluster_paths(options.name, options.data)
    try:
        from .config import begin

        if not paths.order.exists():
            begin(paths, options.listen, options.runtime)
        for number in range(2, options.nodes + 1):
            paths.make_member(number)
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            # Empty, unless it was there before.
            paths.run.rmdir()
        return refuse(options.client, str(error))
    return Cluster(paths, options.client).run()


def refuse(client: int, why: str) -> int:
    """Tell who started us, in the form of a status."""
    print(why, file=sys.stderr)
    if client >= 0:
        status = {"parts": {"control": {"state": "failed", "error": why}}}
        with socket.socket(fileno=client) as link, contextlib.suppress(OSError):
            link.sendall(json.dumps(status).encode() + b"\n")
    return 1
