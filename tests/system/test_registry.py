"""Pulls from the real registry program, with basic authentication, on loopback."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest
import yaml

from sampan.runtime.build import File, ImageConfig, build_config, build_layer
from sampan.runtime.images import ImageStore
from sampan.runtime.interface import Credentials, ImageNotFound, RegistryFailure

pytestmark = pytest.mark.root

USER, PASSWORD = "user", "pass"
# bcrypt of the password above, as htpasswd files have it.
HTPASSWD = "user:$2y$04$tprbQ9eTmIbE71ZMskUuSe0l.4fTsyXayWGWW8ukoowm4rnMbAJVi\n"
LAYERS = [build_layer({f"file{number}": File(bytes(200_000) + b"end")}) for number in range(4)]


class Registry:
    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self._session = aiohttp.ClientSession(
            f"http://{self.host}", headers={"Authorization": basic()}
        )

    async def push(self, name: str, tag: str) -> str:
        """An image of four layers, the way docker pushes; the manifest's digest."""
        config = build_config(ImageConfig(command=["run"]), LAYERS)
        blobs = [gzip.compress(data, mtime=0) for data in LAYERS]
        for data in (config, *blobs):
            await self._upload(name, data)
        kind = "application/vnd.docker"
        manifest = orjson.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{kind}.distribution.manifest.v2+json",
                "config": descriptor(config, f"{kind}.container.image.v1+json"),
                "layers": [
                    descriptor(data, f"{kind}.image.rootfs.diff.tar.gzip") for data in blobs
                ],
            }
        )
        headers = {"Content-Type": f"{kind}.distribution.manifest.v2+json"}
        url = f"/v2/{name}/manifests/{tag}"
        async with self._session.put(url, data=manifest, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
        return digest(manifest)

    async def _upload(self, name: str, data: bytes) -> None:
        async with self._session.post(f"/v2/{name}/blobs/uploads/") as answer:
            assert answer.status == 202
            location = answer.headers["Location"]
        url = f"{location}&digest={digest(data)}"
        headers = {"Content-Type": "application/octet-stream"}
        async with self._session.put(url, data=data, headers=headers) as answer:
            assert answer.status == 201, await answer.text()

    async def close(self) -> None:
        await self._session.close()


def basic() -> str:
    return aiohttp.encode_basic_auth(USER, PASSWORD)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(data: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "blobs")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}},
        "log": {"level": "error"},
    }
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    process = subprocess.Popen(  # noqa: ASYNC220 - only started here
        ["docker-registry", "serve", str(tmp_path / "config.yml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    await listening(port)
    found = Registry(port)
    yield found
    await found.close()
    process.kill()
    process.communicate()


async def listening(port: int) -> None:
    """Until the port answers; refused connections are the kernel's, so this costs little."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return


async def test_push_and_pull(registry: Registry, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    pushed = await registry.push("team/app", "1")
    name = f"{registry.host}/team/app"
    credentials = Credentials(USER, PASSWORD)

    for wrong in (None, Credentials(USER, "wrong")):
        with pytest.raises(RegistryFailure, match="pull access denied"):
            await store.pull(f"{name}:1", wrong)
    assert store.list() == []

    image = await store.pull(f"{name}:1", credentials)
    assert image.tags == [f"{name}:1"]
    assert image.digests == [f"{name}@{pushed}"]
    assert image.command == ["run"]
    tops = store.layers(image.id)
    assert [(top / f"file{3 - at}").read_bytes()[-3:] for at, top in enumerate(tops)] == [
        b"end"
    ] * 4
    assert (await store.pull(f"{name}@{pushed}", credentials)).id == image.id

    with pytest.raises(ImageNotFound, match=f"{name}:2: not found"):
        await store.pull(f"{name}:2", credentials)
