"""`make trust`: the proofs of tests/trust at their whole size, in slices that can be resumed.

Each slice is one run of a row's test with seeds of its own; finished ones are noted in build/trust,
so a run that was broken off goes on where it was. The last step writes docs/trust.md. A slice that
fails stays failed until it is run again: remove its note, or the folder to begin anew.

    python tools/trust.py [ROW...] [--slices N]     # at most N slices each this time
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTES = ROOT / "build" / "trust"
REPORT = ROOT / "docs" / "trust.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One goal: `whole` of `unit`, in slices of `piece`."""

    number: int
    claim: str
    test: str
    unit: str
    whole: int
    piece: int
    python: str = ""
    """The interpreter of another environment, "" for this one."""

    @property
    def slices(self) -> int:
        return self.whole // self.piece


ROWS = (
    Row(1, "kill -9 of the server under load: no acknowledged write is lost",
        "tests/trust/test_kill.py", "kills", 1_000, 50),
    Row(2, "power cut at any write: nothing acknowledged is lost, nothing is corrupt",
        "tests/trust/test_power_cut.py", "seeds", 10_000, 1_000),
    Row(5, "watches are ordered, unique, reliable, atomic, resumable and bookmarked",
        "tests/trust/test_watch.py", "events", 1_000_000, 50_000),
    Row(7, "controllers that die, miss events or see the past: always the same end",
        "tests/trust/test_sieve.py", "plans", 1_000, 50),
    Row(8, "kill -9 of the agent with 100 pods: no container changes, none is left over",
        "tests/trust/test_agent.py", "kills", 100, 10),
    Row(9, "whatever is sent: no 5xx, nothing takes five seconds, and memory stays flat",
        "tests/trust/test_fuzz.py", "inputs", 1_000_000, 100_000),
    Row(10, "DNS, SPDY, YAML, protobuf, manifests, layers: no crash, no escape",
        "tests/trust/test_parsers.py", "inputs each", 100_000, 10_000),
    Row(12, "RBAC: verb, resource, subresource, identity: no leak",
        "tests/trust/test_rights.py", "questions", 1_000_000, 100_000),
    Row(101, "idle watches take little memory, and slow nobody",
        "tests/trust/test_idle_watches.py", "watches", 100_000, 50_000),
    Row(102, "kill -9 of the control plane: every client's watch goes on where it was",
        "tests/clients/test_restart.py", "kills", 100, 10, ".venv-clients/bin/python"),
    Row(103, "every operation of the served OpenAPI: no 5xx, always an answer",
        "tests/clients/test_schemathesis.py", "examples each", 20, 4, ".venv-clients/bin/python"),
    Row(104, "the scheduler's fast choices are the definition's, 3000 pods on 500 nodes at a time",
        "tests/trust/test_scheduling.py", "pods", 60_000, 3_000),
)  # fmt: skip


def note_of(row: Row, number: int) -> Path:
    return NOTES / f"{row.number}-{number}.json"


def run(row: Row, number: int) -> bool:
    """One slice; its outcome is noted."""
    environment = os.environ | {
        "SAMPAN_TRUST_SIZE": str(row.piece),
        "SAMPAN_TRUST_SLICE": str(number),
    }
    began = time.monotonic()
    python = str(ROOT / row.python) if row.python else sys.executable
    command = [python, "-m", "pytest", "-q", row.test]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    note = {"passed": done.returncode == 0, "seconds": round(time.monotonic() - began, 1)}
    NOTES.mkdir(parents=True, exist_ok=True)
    note_of(row, number).write_text(json.dumps(note))
    return done.returncode == 0


def notes(row: Row) -> list[dict[str, float]]:
    paths = [note_of(row, number) for number in range(row.slices)]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def report() -> str:
    """docs/trust.md, from the notes."""
    lines = [
        "# What was proved, and at what size",
        "",
        "Written by `make trust` from the slices it has run. Each row's test has a negative",
        "control beside it, which must fail; CI runs the same tests at a smaller size. Rows over",
        "100 are what the API owes its clients beyond TRUST's table. A row whose test is not of",
        "a size is proved by CI whole: 11 in tests/behaviour/test_cves.py (the API's part) and",
        "tests/trust/test_attacks.py (the node's), hostile clients,",
        "bodies and webhooks in tests/behaviour/test_hostile_*.py and test_webhooks_hostile.py.",
        "",
        "| row | claim | goal | run | failed | hours |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        known = notes(row)
        failed = sum(not note["passed"] for note in known) * row.piece
        hours = sum(note["seconds"] for note in known) / 3600
        lines.append(
            f"| {row.number} | {row.claim} | {row.whole:,} {row.unit} "
            f"| {len(known) * row.piece:,} | {failed:,} | {hours:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int)
    parser.add_argument("--slices", type=int, default=0)
    asked = parser.parse_args()
    good = True
    for row in ROWS:
        if asked.rows and row.number not in asked.rows:
            continue
        left = [number for number in range(row.slices) if not note_of(row, number).exists()]
        for number in left[: asked.slices or None]:
            good &= run(row, number)
            REPORT.write_text(report())
    REPORT.write_text(report())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
