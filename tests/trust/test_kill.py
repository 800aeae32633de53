"""TRUST row 1: kill -9 of the server under load loses no acknowledged write."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.history import History, Write
from tests.kit.ports import free_port
from tests.kit.trust import SLICE, size

KILLS = size(50)
CLIENTS = 8
LEAST_PER_S = 100
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
START_TIMEOUT_S = 30.0
HONEST = ["-m", "sampan", "control"]
EARLY = [str(Path(__file__).parents[1] / "kit" / "early_ack.py")]
GONE = (aiohttp.ClientError, OSError, asyncio.TimeoutError)

pytestmark = pytest.mark.trust


class Machine:
    """A control plane that is started, loaded and killed."""

    def __init__(self, data: Path, program: list[str], seed: int) -> None:
        self.data = data
        self.program = program
        self.port = free_port()
        self.history = History()
        self.chance = random.Random(seed)
        self.counter = 0
        self.loaded_s = 0.0

    def start(self) -> subprocess.Popen[bytes]:
        read, write = os.pipe()
        command = [sys.executable, *self.program, "--name", "kill", "--data", str(self.data)]
        command += ["--listen", f"127.0.0.1:{self.port}", "--pipe", str(write)]
        with open(self.data.parent / "log", "ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, pass_fds=(write,), cwd=Path(__file__).parents[2]
            )
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            for line in pipe:
                if b"listening" in line:
                    return process
        raise AssertionError((self.data.parent / "log").read_text()[-2000:])

    def session(self) -> aiohttp.ClientSession:
        token = (self.data / "admin.token").read_text()
        context = ssl.create_default_context(cafile=str(self.data / "pki" / "ca.crt"))
        return aiohttp.ClientSession(
            f"https://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=10),
        )

    async def load(self, session: aiohttp.ClientSession, client: int) -> None:
        """Create and overwrite this client's own objects until the server is gone."""
        with contextlib.suppress(*GONE):
            while True:
                self.counter += 1
                write = Write(f"c{client}-{self.counter % 5}", self.counter, time.monotonic())
                self.history.writes.append(write)
                await self.attempt(session, write)

    async def attempt(self, session: aiohttp.ClientSession, write: Write) -> None:
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": write.name},
            "data": {"value": str(write.value)},
        }
        async with session.put(f"{CONFIGMAPS}/{write.name}", json=body) as answer:
            if answer.status == 404:
                await answer.read()
                async with session.post(CONFIGMAPS, json=body) as created:
                    self.note(write, created.status, await created.json())
            else:
                self.note(write, answer.status, await answer.json())

    @staticmethod
    def note(write: Write, status: int, body: dict[str, Any]) -> None:
        assert status in (200, 201), body
        write.ended = time.monotonic()
        write.revision = int(body["metadata"]["resourceVersion"])

    async def stored(self, session: aiohttp.ClientSession) -> dict[str, tuple[int, int]]:
        async with session.get(CONFIGMAPS) as answer:
            items = (await answer.json())["items"]
        return {
            item["metadata"]["name"]: (
                int(item["data"]["value"]),
                int(item["metadata"]["resourceVersion"]),
            )
            for item in items
            if item["metadata"]["name"].startswith("c")
        }

    async def life(self, process: subprocess.Popen[bytes]) -> None:
        """Load the server for a while, kill it in the middle."""
        async with self.session() as session:
            clients = [asyncio.create_task(self.load(session, n)) for n in range(CLIENTS)]
            began = time.monotonic()
            timer = asyncio.get_running_loop().create_future()
            delay = self.chance.uniform(0.1, 0.5)
            asyncio.get_running_loop().call_later(delay, timer.set_result, None)
            await timer
            process.send_signal(signal.SIGKILL)
            self.loaded_s += time.monotonic() - began
            await asyncio.gather(*clients)
        process.wait()

    async def check(self) -> list[str]:
        async with self.session() as session:
            return self.history.problems(await self.stored(session))


async def kill_again_and_again(machine: Machine, kills: int) -> list[str]:
    """Problems found; each life begins with a check of all that was before."""
    for _ in range(kills):
        process = machine.start()
        try:
            problems = await machine.check()
            if problems:
                return problems
            await machine.life(process)
        finally:
            process.kill()
            process.wait()
    process = machine.start()
    try:
        return await machine.check()
    finally:
        process.kill()
        process.wait()


async def test_kill_loses_no_acknowledged_write(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "data", HONEST, seed=1 + 2 * SLICE)
    assert await kill_again_and_again(machine, KILLS) == []
    assert len(machine.history.acknowledged()) / machine.loaded_s > LEAST_PER_S


async def test_the_test_can_fail(tmp_path: Path) -> None:
    """Negative control: a server that answers before the write is durable is found out."""
    machine = Machine(tmp_path / "data", EARLY, seed=2 + 2 * SLICE)
    assert await kill_again_and_again(machine, 5) != []
