"""Transcripts of a shell that are run again and compared: a table of commands and their output.

    # A comment.
    $ kubectl create configmap a --from-literal=x=1
    configmap/a created
    [1.32 1.37] $ kubectl wait --for=create configmap/a
    [1.32 1.37] configmap/a condition met
    $ kubectl get nothing
    error: the server doesn't have a resource type "nothing"
    exit 1

A command goes on in lines that begin with `>`. Standard output and error count together, white
space does not; `*` stands for anything in a line, a line `...` for any lines, `{ns}` for the
namespace. `[1.27]` limits a command or a line to versions; `exit N` is the exit code, else 0.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT_S = 60
ONLY = re.compile(r"\[([\d. ]+)\] ")


@dataclass(slots=True)
class Step:
    line: int
    command: str
    expected: list[str] = field(default_factory=list)
    code: int = 0


def read(text: str, version: str) -> list[Step]:
    """The steps of a transcript for one version of the program."""
    steps: list[Step] = []
    skipping = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        wanted = True
        if only := ONLY.match(line):
            wanted = version in only[1].split()
            line = line[only.end() :]
        if line.startswith("$ "):
            skipping = not wanted
            if wanted:
                steps.append(Step(number, line[2:]))
        elif skipping or not wanted:
            continue
        elif line.startswith(">"):
            steps[-1].command += "\n" + line[2:]
        elif exit_code := re.fullmatch(r"exit (\d+)", line):
            steps[-1].code = int(exit_code[1])
        else:
            steps[-1].expected.append(line)
    return steps


def play(steps: list[Step], folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run the steps one after another in `folder`; yields what was not as expected."""
    for step in steps:
        try:
            run = subprocess.run(
                ["bash", "-c", step.command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            said = (error.stdout or b"").decode(errors="replace")
            yield f"line {step.line}: $ {step.command}\n  ran over {TIMEOUT_S} s\n{said}"
            continue
        said = run.stdout.decode(errors="replace")
        expected = [line.replace("{ns}", environment["NS"]) for line in step.expected]
        if run.returncode != step.code or not matches(expected, said):
            wanted = "\n".join(f"  - {line}" for line in [*expected, f"exit {step.code}"])
            came = "\n".join(f"  + {line}" for line in [*plain(said), f"exit {run.returncode}"])
            yield f"line {step.line}: $ {step.command}\n{wanted}\n{came}"


def plain(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def matches(expected: list[str], said: str) -> bool:
    """Whether the output is what the pattern says."""
    pattern = "".join(
        r"(?:.*\n)*?"
        if line.strip() == "..."
        else ".*".join(re.escape(part) for part in " ".join(line.split()).split("*")) + r"\n"
        for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in plain(said))) is not None
