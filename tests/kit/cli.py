"""The commands a user types, run as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
RUNTIME = os.environ.get("SAMPAN_TEST_RUNTIME", "")
"""What runs the containers of tests' clusters; with `containerd` the suite is over CRI."""
TIMEOUT_S = 120
"""No command of a healthy cluster takes this long; a hanging one fails its test."""


@dataclass(slots=True)
class User:
    """A person with a cluster: `sampan` and `kubectl` with the right names filled in."""

    name: str
    data: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        config = self.data / "admin.kubeconfig"
        return os.environ | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "KUBECONFIG": str(config),
            "TERM": "dumb",
        }

    def run(self, *command: str, text: str = "", env: dict[str, str] | None = None) -> Result:
        run = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
            env=self.environment | (env or {}),
        )
        return Result(run.returncode, run.stdout, run.stderr)

    def sampan(self, *command: str, env: dict[str, str] | None = None) -> Result:
        groups = 2 if command[0] in ("image", "node", "addon", "token") else 1
        where = ("--name", self.name, "--data", str(self.data))
        if command[0] == "up" and RUNTIME:
            where += ("--runtime", RUNTIME)
        return self.run("sampan", *command[:groups], *where, *command[groups:], env=env)

    def kubectl(self, *command: str, text: str = "") -> Result:
        return self.run("kubectl", *command, text=text)

    def get(self, *command: str) -> Any:
        """`kubectl get ... -o json`, decoded."""
        return json.loads(self.kubectl("get", *command, "-o", "json").ok)


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def ok(self) -> str:
        """Standard output of a command that must have succeeded."""
        assert self.code == 0, f"exit code {self.code}: {self.err or self.out}"
        return self.out

    @property
    def failed(self) -> str:
        """Standard error of a command that must have failed with one line."""
        assert self.code == 1, f"exit code {self.code}: {self.out}"
        return self.err.strip()
