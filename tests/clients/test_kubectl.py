"""kubectl 1.27, 1.32 and 1.37 through every verb: the transcripts in kubectl/, run by each.

The transcripts of a version are played at the same time, since most of a command is waiting and
starting; each in a namespace of its own. A test takes what came of its transcript.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.clients.cluster import PROGRAMS, Cluster
from tests.clients.transcripts import play, read
from tests.kit.cli import BIN

FOLDER = Path(__file__).parent / "kubectl"
TRANSCRIPTS = sorted(path.stem for path in FOLDER.glob("*.txt"))
VERSIONS = ("1.27", "1.32", "1.37")
AT_ONCE = 4
"""Transcripts played together: more than processors, as each waits for the cluster in between."""

Outcome = list[str]


def program(version: str) -> Path:
    """1.37 comes with the clients' environment, the others lie beside it."""
    return BIN / "kubectl" if version == "1.37" else PROGRAMS / f"bin/kubectl-{version}"


@pytest.fixture(scope="module")
def outcomes(
    cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Future[Outcome]]]:
    """Every transcript that was asked for, begun."""
    chosen = [
        (item.callspec.params["version"], item.callspec.params["transcript"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_transcript"
    ]
    folder = tmp_path_factory.mktemp("kubectl")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {pair: pool.submit(perform, cluster, folder, *pair) for pair in chosen}


def perform(cluster: Cluster, root: Path, version: str, transcript: str) -> Outcome:
    """Play one transcript with one kubectl."""
    namespace = f"{transcript}-{version.replace('.', '-')}"
    folder = root / namespace
    (folder / "bin").mkdir(parents=True)
    assert program(version).exists(), "make clients"
    (folder / "bin/kubectl").symlink_to(program(version))
    environment = cluster.environment | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "KUBECONFIG": str(cluster.kubeconfig(namespace, folder / "config")),
        "KUBECACHEDIR": str(root / f"cache-{version}"),
        "NS": namespace,
        "NODE": cluster.node,
        "DATA": str(FOLDER),
    }
    with cluster.namespace(namespace):
        return list(
            play(read((FOLDER / f"{transcript}.txt").read_text(), version), folder, environment)
        )


@pytest.mark.parametrize("transcript", TRANSCRIPTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_transcript(
    outcomes: dict[tuple[str, str], Future[Outcome]], version: str, transcript: str
) -> None:
    wrong = outcomes[version, transcript].result()
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_that_version(version: str) -> None:
    command = [str(program(version)), "version", "--client", "--output=json"]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert said["clientVersion"]["gitVersion"].startswith(f"v{version}.")
