"""kubectl against a cluster in this process: the project's own environment has the one of 1.36."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

KUBECTL = Path(sys.executable).with_name("kubectl")
PATIENCE_S = 30.0


@dataclass(slots=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def ok(self) -> str:
        """What it printed; fails if it did."""
        assert self.code == 0, (self.code, self.out, self.err)
        return self.out

    @property
    def failed(self) -> str:
        """What it complained of; fails if it did not."""
        assert self.code != 0, self.out
        return self.err

    @property
    def json(self) -> Any:
        return orjson.loads(self.ok)


class Kubectl:
    """Its configuration is the cluster's, its caches are the test's own."""

    def __init__(self, kubeconfig: Path, home: Path) -> None:
        assert KUBECTL.exists(), "the development environment has it"
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KUBECONFIG": str(kubeconfig),
            # One garbage collector's thread less to start; twice as quick for commands this small.
            "GOMAXPROCS": "1",
        }

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start one that goes on; the caller ends it."""
        return await asyncio.create_subprocess_exec(
            KUBECTL,
            *arguments,
            env=self.environment,
            cwd=self.home,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *arguments: str, given: Any = None) -> Said:
        """Run one; `given` is an object, or text, for its standard input."""
        process = await self.begin(*arguments)
        text = given.encode() if isinstance(given, str) else orjson.dumps(given) if given else b""
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate(text)
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())
