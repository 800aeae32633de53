"""One real cluster for all clients, and a namespace for each test.

These tests run in the clients' own environment (`make clients`, then
`.venv-clients/bin/python -m pytest tests/clients`); in the project's own they are not collected.
There, nothing is skipped: a client that is missing fails its tests.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = f"clients-{os.getpid() % 1000}"
"""Short, as a bridge is named after it; of its own, so that two runs do not meet."""
HERE = importlib.util.find_spec("kopf") is not None
"""Whether this is the clients' environment: no other has an operator framework."""

collect_ignore_glob = [] if HERE else ["test_*.py"]


def pytest_report_header() -> str:
    return "" if HERE else "tests/clients: not in this environment; make clients, see the Makefile"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)


if HERE:
    from tests.clients.cluster import Cluster, running

    @pytest.fixture(scope="session")
    def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
        """A running cluster with the images web:1 and web:2; nothing is left of it afterwards."""
        with running(NAME, tmp_path_factory.mktemp("clients")) as cluster:
            yield cluster

    @pytest.fixture
    def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
        """A namespace of the test's own, deleted (without waiting) at its end."""
        name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:63].strip("-")
        with cluster.namespace(name):
            yield name

    @pytest.fixture
    def kubeconfig(cluster: Cluster, namespace: str, tmp_path: Path) -> Path:
        """A kubeconfig whose current context is in the test's namespace."""
        return cluster.kubeconfig(namespace, tmp_path / "kubeconfig")
