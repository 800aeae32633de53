"""Draw docs/demo.svg, the README's picture: a real session's commands and what they printed.

usage: python tools/picture.py   (as root; boots a cluster named "picture" and removes it)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
NAME = "picture"
WIDTH = 112
BEFORE = (
    "sampan up",
    "kubectl get nodes",
    "sampan image load guestbook-frontend.tar",
    "sampan image load guestbook-backend.tar",
    "kubectl apply -f examples/guestbook/guestbook.yaml",
    "kubectl rollout status deployment/redis",
    "kubectl rollout status deployment/frontend",
    "kubectl get pods",
    "curl -sS --retry 5 --retry-connrefused -d Hello http://127.0.0.1:30080/cgi-bin/entries",
    "sampan status",
)


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    words = command.split()
    if words[0] == "sampan":
        at = 3 if words[1] == "image" else 2
        words[at:at] = ["--name", NAME, "--data", str(folder / "data")]
    words = [str(folder / word) if word.endswith(".tar") else word for word in words]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    return done.stdout.replace(str(folder), "").replace(f"cluster {NAME}", "cluster default")


def main(folder: Path) -> None:
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "HOME": str(folder),
        "KUBECONFIG": str(folder / "config"),
    }
    build = [sys.executable, "-m", "examples.guestbook.build", str(folder)]
    subprocess.run(build, check=True, cwd=ROOT, capture_output=True)
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: SIM115
    try:
        for command in BEFORE:
            console.print(Text(f"$ {command}", style="bold green"))
            console.print(Text(run(command, folder, environment).rstrip()))
    finally:
        purge = ["--name", NAME, "--data", str(folder / "data"), "--purge"]
        subprocess.run([str(bin_folder / "sampan"), "down", *purge], check=True, env=environment)
    (ROOT / "docs/demo.svg").write_text(console.export_svg(title="sampan"))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
