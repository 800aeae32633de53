"""The parts by themselves: a server in one process, an agent that joins it by token in another."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.cli import User
from tests.kit.images import busybox_archive
from tests.kit.machine import NOTHING, traces
from tests.kit.ports import free_port

pytestmark = pytest.mark.root


@contextmanager
def part(user: User, *command: str) -> Iterator[Path]:
    """A part in the foreground; its log. SIGTERM ends it."""
    user.home.mkdir(parents=True, exist_ok=True)
    log = user.home / f"{command[0]}.log"
    where = ("--name", user.name, "--data", str(user.data))
    with open(log, "wb") as file:
        process = subprocess.Popen(
            ["sampan", command[0], *where, *command[1:]],
            stdout=subprocess.DEVNULL,
            stderr=file,
            env=user.environment,
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def until_said(log: Path, text: str) -> None:
    """Wait until a log has `text`, by tail, which waits by inotify."""
    command = f"timeout 60 tail -n +1 -f {log} | grep -q -m 1 {text!r}"
    run = subprocess.run(["bash", "-c", command], check=False)
    assert run.returncode == 0, log.read_text()[-2000:]


def test_an_agent_joins_a_server_and_runs_pods(tmp_path: Path) -> None:
    server = User("parts-s", tmp_path / "server", tmp_path / "home")
    agent = User("parts-a", tmp_path / "agent", tmp_path / "home")
    url = f"127.0.0.1:{free_port()}"
    try:
        with part(server, "server", "--listen", url) as log:
            until_said(log, "listening")
            token = (server.data / "agent.token").read_text()
            join = ("--server", f"https://{url}", "--token", token, "--node-name", "worker")
            with part(agent, "agent", *join) as agent_log:
                until_said(agent_log, "'state': 'ready'")
                image = busybox_archive(tmp_path / "image.tar", "parts:1")
                agent.sampan("image", "load", str(image)).ok
                command = ["--image=parts:1", "--command", "--", "sh", "-c", "echo up; sleep 99"]
                server.kubectl("run", "pod", *command).ok
                wait = ("wait", "pod/pod", "--for=condition=Ready", "--timeout=30s")
                server.kubectl(*wait).ok
                assert server.kubectl("logs", "pod").ok == "up\n"
                requests = server.get("csr")["items"]
                assert {item["spec"]["username"] for item in requests} == {
                    "system:bootstrap:agent",
                    "system:node:worker",
                }
    finally:
        for user in (agent, server):
            user.sampan("down").ok
            assert traces(user.name, user.data) == NOTHING


def test_a_token_of_another_cluster_is_refused(tmp_path: Path) -> None:
    agent = User("parts-x", tmp_path / "agent", tmp_path / "home")
    agent.home.mkdir()
    join = ("--server", "https://127.0.0.1:1", "--token", "nonsense")
    run = agent.sampan("agent", *join)
    assert run.code != 0
    assert "the token is damaged" in run.err
    assert not json.loads(agent.sampan("status", "--json").out)["running"]
    agent.sampan("down").ok
