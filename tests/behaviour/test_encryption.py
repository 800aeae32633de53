"""Keys of encryption are changed as documented: put first, restart, replace all, restart."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.server.encryption import build
from sampan.store.interface import Damaged
from sampan.store.sqlite import SqliteStore
from tests.kit.cluster import Cluster, api_cluster

SECRETS = "/api/v1/namespaces/default/secrets"
WORD = base64.b64encode(b"what nobody may read").decode()


def provider(name: str) -> dict[str, Any]:
    if not name:
        return {"identity": {}}
    secret = base64.b64encode(name.encode() * 16).decode()
    return {"aesgcm": {"keys": [{"name": name, "secret": secret}]}}


def keys(*names: str) -> Any:
    """A configuration whose first key writes; "" stands for values as they are."""
    rule = {"resources": ["secrets"], "providers": [provider(name) for name in names]}
    return build(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [rule],
        }
    )


@asynccontextmanager
async def started(path: Path, *names: str) -> AsyncIterator[Cluster]:
    store = SqliteStore.open(path, keys(*names))
    try:
        async with api_cluster(store=store) as cluster:
            yield cluster
    finally:
        await store.close()


def on_disk(path: Path) -> bytes:
    files = (path, path.with_name(path.name + "-wal"))
    return b"".join(item.read_bytes() for item in files if item.exists())


async def replace_all(cluster: Cluster) -> list[bool]:
    """What `kubectl replace` does: put each back as it is. Which of them were written anew?"""
    changed = []
    for item in (await cluster.http("GET", SECRETS)).json["items"]:
        answer = await cluster.http("PUT", f"{SECRETS}/{item['metadata']['name']}", item)
        assert answer.status == 200, answer.message
        before = item["metadata"]["resourceVersion"]
        changed.append(answer.json["metadata"]["resourceVersion"] != before)
    return changed


async def test_a_key_is_changed_without_losing_or_showing_anything(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with started(path, "") as cluster:
        body = {"metadata": {"name": "s"}, "data": {"word": WORD}}
        assert (await cluster.http("POST", SECRETS, body)).status == 201
    assert WORD.encode() in on_disk(path)
    for names in (("k1", ""), ("k2", "k1")):
        async with started(path, *names) as cluster:
            found = (await cluster.http("GET", f"{SECRETS}/s")).json
            assert found["data"] == {"word": WORD}
            assert await replace_all(cluster) == [True], "what another key wrote is written anew"
            assert await replace_all(cluster) == [False], "and an update of nothing is nothing"
        # The restart takes what was superseded off the disk.
        async with started(path, *names) as cluster:
            assert (await cluster.http("GET", f"{SECRETS}/s")).json["data"] == {"word": WORD}
        disk = on_disk(path)
        assert b"k8s:enc:aesgcm:v1:%b:" % names[0].encode() in disk
        assert WORD.encode() not in disk
        assert b"k8s:enc:aesgcm:v1:%b:" % (names[1].encode() or b"none") not in disk
    async with started(path, "k2") as cluster:
        assert (await cluster.http("GET", f"{SECRETS}/s")).json["data"] == {"word": WORD}


async def test_the_old_key_is_needed_until_all_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with started(path, "k1") as cluster:
        for name in ("a", "b"):
            body = {"metadata": {"name": name}, "data": {"word": WORD}}
            assert (await cluster.http("POST", SECRETS, body)).status == 201
    async with started(path, "k2", "k1") as cluster:
        found = (await cluster.http("GET", f"{SECRETS}/a")).json
        assert (await cluster.http("PUT", f"{SECRETS}/a", found)).status == 200
    with pytest.raises(Damaged, match=r"secrets \(key /registry/secrets/default/b, .* 1 value"):
        SqliteStore.open(path, keys("k2"))
    async with started(path, "k2", "k1") as cluster:
        assert len((await cluster.http("GET", SECRETS)).json["items"]) == 2
