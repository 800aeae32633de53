"""Pulls from a registry that the test plays: authentication, digests, redirects, refusals."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from yarl import URL

from sampan.runtime import room
from sampan.runtime.build import File, ImageConfig, build_config, build_layer
from sampan.runtime.images import ImageStore
from sampan.runtime.interface import (
    Credentials,
    ImageDamaged,
    ImageNotFound,
    RegistryFailure,
    RuntimeFailure,
)
from sampan.runtime.manifest import choose, machine
from sampan.runtime.mirrors import endpoints
from sampan.runtime.reference import parse
from sampan.runtime.upstream import Server

pytestmark = pytest.mark.root

LAYERS = [build_layer({f"f{number}": File(b"x" * 1000)}) for number in range(5)]
OCI = "application/vnd.oci.image"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class FakeRegistry:
    """One repository, "app". Switches make it misbehave; `seen` is what clients sent."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.seen: list[tuple[str, str]] = []
        self.challenge = ""
        self.accepted = ""
        self.token: Any = {"token": "good"}
        self.redirect = ""
        self.corrupt: Callable[[bytes], bytes] = bytes
        self.port = 0
        self.digest_header = ""
        self.asked = asyncio.Event()
        self.cuts = 0
        """How many answers with blobs break off in the middle."""
        self.ranges: list[str] = []
        self.form: dict[str, Any] = {}

    def put(self) -> str:
        """An index over a manifest for this machine; the index's digest."""
        config = build_config(ImageConfig(command=["run"]), LAYERS)
        self.blobs[digest(config)] = config
        packed = [gzip.compress(data, mtime=0) for data in LAYERS]
        self.blobs.update({digest(data): data for data in packed})
        manifest = orjson.dumps(
            {
                "schemaVersion": 2,
                "config": {"digest": digest(config), "size": len(config)},
                "layers": [{"digest": digest(data), "size": len(data)} for data in packed],
            }
        )
        kind = f"{OCI}.manifest.v1+json"
        self.manifests[digest(manifest)] = (kind, manifest)
        index = orjson.dumps(
            {
                "schemaVersion": 2,
                "manifests": [
                    {
                        "digest": "sha256:" + "0" * 64,
                        "size": 1,
                        "platform": {"os": "linux", "architecture": "s390x"},
                    },
                    {
                        "digest": digest(manifest),
                        "size": len(manifest),
                        "platform": {"os": "linux", "architecture": machine()},
                    },
                ],
            }
        )
        entry = (f"{OCI}.index.v1+json", index)
        self.manifests["1"] = self.manifests[digest(index)] = entry
        return digest(index)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        sent = request.headers.get("Authorization", "")
        self.seen.append((request.path, sent))
        self.asked.set()
        if request.path == "/token":
            self.form = dict(await request.post())
            return web.json_response(self.token)
        if self.challenge and sent != self.accepted:
            return web.json_response(
                {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]},
                status=401,
                headers={"WWW-Authenticate": self.challenge},
            )
        _, _, kind, name = request.path.rsplit("/", 3)[-4:]
        if kind == "manifests" and name in self.manifests:
            media, data = self.manifests[name]
            headers = {"Docker-Content-Digest": self.digest_header} if self.digest_header else {}
            return web.Response(body=data, content_type=media, headers=headers)
        if kind == "blobs" and name in self.blobs:
            if self.redirect:
                raise web.HTTPTemporaryRedirect(f"{self.redirect}{request.path}")
            return await self.blob(request, self.corrupt(self.blobs[name]))
        return web.json_response({"errors": []}, status=404)

    async def blob(self, request: web.Request, data: bytes) -> web.StreamResponse:
        """The part that is asked for, or its first half and then nothing more."""
        asked = request.headers.get("Range", "")
        headers = {}
        if asked:
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        answer = web.StreamResponse(status=206 if asked else 200, headers=headers)
        answer.content_length = len(data)
        await answer.prepare(request)
        if self.cuts and len(data) > 1 and b"rootfs" not in data:
            self.cuts -= 1
            await answer.write(data[: len(data) // 2])
            assert request.transport is not None
            request.transport.close()
            return answer
        await answer.write(data)
        return answer

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}/app:1"


async def serve(registry: FakeRegistry) -> web.AppRunner:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    registry.port = runner.addresses[0][1]
    return runner


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    fake = FakeRegistry()
    runner = await serve(fake)
    yield fake
    await runner.cleanup()


@pytest.fixture
async def other() -> AsyncIterator[FakeRegistry]:
    fake = FakeRegistry()
    runner = await serve(fake)
    yield fake
    await runner.cleanup()


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


async def test_pull_by_tag_and_digest(registry: FakeRegistry, store: ImageStore) -> None:
    index = registry.put()
    image = await store.pull(registry.name)
    assert image.tags == [registry.name]
    assert image.digests == [f"127.0.0.1:{registry.port}/app@{index}"]
    assert image.command == ["run"]
    assert (store.layers(image.id)[0] / "f4").exists()
    seen = len(registry.seen)
    again = await store.pull(f"127.0.0.1:{registry.port}/app@{index}")
    assert again.id == image.id
    assert not any("blobs" in path for path, _ in registry.seen[seen + 3 :]), "layers are kept"


async def test_concurrent_pulls_share(registry: FakeRegistry, store: ImageStore) -> None:
    registry.put()
    images = await asyncio.gather(*(store.pull(registry.name) for _ in range(5)))
    assert len({image.id for image in images}) == 1
    assert sum(path.endswith("/manifests/1") for path, _ in registry.seen) == 1


async def test_a_pull_nobody_waits_for_ends(registry: FakeRegistry, store: ImageStore) -> None:
    registry.put()
    task = asyncio.create_task(store.pull(registry.name))
    await registry.asked.wait()
    (shared,) = store._pulls.values()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(asyncio.CancelledError):
        await shared._task
    assert not store._pulls
    assert store.list() == []


async def test_token(registry: FakeRegistry, store: ImageStore) -> None:
    registry.put()
    realm = f"http://127.0.0.1:{registry.port}/token"
    registry.challenge = f'Bearer realm="{realm}",service="s",scope="repository:app:pull"'
    registry.accepted = "Bearer good"
    await store.pull(registry.name, Credentials("user", "pass"))
    basic = f"Basic {base64.b64encode(b'user:pass').decode()}"
    assert [sent for path, sent in registry.seen if path == "/token"] == [basic]


async def test_basic(registry: FakeRegistry, store: ImageStore) -> None:
    registry.put()
    registry.challenge = 'Basic realm="x"'
    registry.accepted = f"Basic {base64.b64encode(b'user:pass').decode()}"
    with pytest.raises(RegistryFailure) as caught:
        await store.pull(registry.name)
    assert str(caught.value) == (
        f'failed to pull and unpack image "{registry.name}": failed to resolve reference '
        f'"{registry.name}": pull access denied, repository does not exist or may require '
        "authorization: server message: unauthorized: authentication required"
    )
    with pytest.raises(RegistryFailure):
        await store.pull(registry.name, Credentials("user", "wrong"))
    await store.pull(registry.name, Credentials("user", "pass"))


async def test_a_realm_elsewhere_gets_no_password(
    registry: FakeRegistry, other: FakeRegistry, store: ImageStore
) -> None:
    """CVE-2020-15157: in clear, only the registry itself may see it."""
    registry.put()
    registry.challenge = f'Bearer realm="http://127.0.0.1:{other.port}/token",service="s"'
    registry.accepted = "Bearer good"
    await store.pull(registry.name, Credentials("user", "pass"))
    assert other.seen == [("/token", "")]


def test_which_realm_may_see_the_password() -> None:
    def may(registry: str, realm: str) -> bool:
        name = parse(registry)
        (endpoint,) = endpoints(name.domain, ())
        server = Server(None, name, None, endpoint)  # type: ignore[arg-type]
        return server._may_know(URL(realm))

    assert may("docker.io/library/a", "https://auth.docker.io/token")
    assert not may("docker.io/library/a", "http://auth.docker.io/token")
    assert may("localhost:5000/a", "http://localhost:5000/t")
    assert not may("localhost:5000/a", "http://localhost:5001/t")
    assert not may("localhost:5000/a", "https://elsewhere/t")
    assert not may("r.io/a", "http://r.io/t")


async def test_a_redirect_gets_no_credentials(
    registry: FakeRegistry, other: FakeRegistry, store: ImageStore
) -> None:
    registry.put()
    other.put()
    registry.challenge = 'Basic realm="x"'
    registry.accepted = f"Basic {base64.b64encode(b'user:pass').decode()}"
    registry.redirect = f"http://127.0.0.1:{other.port}"
    await store.pull(registry.name, Credentials("user", "pass"))
    assert len(other.seen) == len(LAYERS) + 1
    assert {sent for _, sent in other.seen} == {""}


async def test_a_challenge_after_a_redirect_is_not_answered(
    registry: FakeRegistry, other: FakeRegistry, store: ImageStore
) -> None:
    registry.put()
    registry.redirect = f"http://127.0.0.1:{other.port}"
    other.challenge, other.accepted = 'Basic realm="x"', "Basic whatever"
    with pytest.raises(RegistryFailure):
        await store.pull(registry.name, Credentials("user", "pass"))
    assert {sent for _, sent in other.seen} == {""}


async def test_redirects_end(registry: FakeRegistry, store: ImageStore) -> None:
    registry.put()
    registry.redirect = f"http://127.0.0.1:{registry.port}"
    with pytest.raises(RegistryFailure, match="too many redirects"):
        await store.pull(registry.name)


async def test_missing_image(registry: FakeRegistry, store: ImageStore) -> None:
    with pytest.raises(ImageNotFound) as caught:
        await store.pull(registry.name)
    name = registry.name
    assert str(caught.value) == (
        f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": '
        f"{name}: not found"
    )


@pytest.mark.parametrize(
    "corrupt",
    [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"y" + data[1:]],
    ids=["short", "long", "changed"],
)
async def test_damaged_blobs_leave_nothing(
    registry: FakeRegistry,
    store: ImageStore,
    tmp_path: Path,
    corrupt: Callable[[bytes], bytes],
) -> None:
    registry.put()
    registry.corrupt = corrupt
    with pytest.raises(ImageDamaged):
        await store.pull(registry.name)
    assert store.list() == []
    assert not list((tmp_path / "images/layers").iterdir())
    assert not list((tmp_path / "images/drafts").iterdir())


async def test_manifest_of_another_digest(registry: FakeRegistry, store: ImageStore) -> None:
    index = registry.put()
    registry.digest_header = "sha256:" + "1" * 64
    with pytest.raises(ImageDamaged, match="calls it"):
        await store.pull(registry.name)
    registry.digest_header = ""
    registry.manifests[index] = (registry.manifests[index][0], b'{"schemaVersion": 2}')
    with pytest.raises(ImageDamaged):
        await store.pull(f"127.0.0.1:{registry.port}/app@{index}")


def test_the_plain_one_of_a_machines_variants() -> None:
    def entry(number: int, **platform: str) -> dict[str, Any]:
        where = {"os": "linux", "architecture": "amd64", **platform}
        return {"digest": f"sha256:{number:064}", "size": 1, "platform": where}

    index = {"manifests": [entry(1, variant="v3"), entry(2), entry(3, os="windows")]}
    assert choose(index, "amd64").digest.endswith("2")
    assert choose({"manifests": index["manifests"][:1]}, "amd64").digest.endswith("1")


async def test_nothing_for_this_machine(registry: FakeRegistry, store: ImageStore) -> None:
    registry.manifests["1"] = (f"{OCI}.index.v1+json", b'{"manifests": []}')
    with pytest.raises(ImageNotFound, match="no match for platform"):
        await store.pull(registry.name)


@pytest.mark.parametrize("token", [{}, [], {"token": "a\r\nX: y"}, {"token": 5}])
async def test_malformed_tokens(registry: FakeRegistry, store: ImageStore, token: Any) -> None:
    registry.challenge = f'Bearer realm="http://127.0.0.1:{registry.port}/token"'
    registry.accepted, registry.token = "Bearer good", token
    with pytest.raises(RegistryFailure, match="malformed token"):
        await store.pull(registry.name)


async def test_no_registry_there(store: ImageStore) -> None:
    with pytest.raises(RegistryFailure) as caught:
        await store.pull("127.0.0.1:1/app:1")
    assert str(caught.value).endswith(
        'failed to do request: Head "http://127.0.0.1:1/v2/app/manifests/1": '
        "dial tcp 127.0.0.1:1: connect: connection refused"
    )
    with pytest.raises(RegistryFailure) as caught:
        await store.pull("nowhere.invalid/app:1")
    assert str(caught.value).endswith(
        'failed to do request: Head "https://nowhere.invalid/v2/app/manifests/1": '
        "dial tcp: lookup nowhere.invalid: no such host"
    )


async def test_a_registry_without_tls(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sampan.runtime.mirrors.is_loopback", lambda host: False)
    with pytest.raises(RegistryFailure, match="http: server gave HTTP response to HTTPS client"):
        await ImageStore(tmp_path / "images").pull(registry.name)


async def test_a_cut_download_goes_on_where_it_was(
    registry: FakeRegistry, store: ImageStore
) -> None:
    registry.put()
    registry.cuts = 7
    await store.pull(registry.name)
    assert len(registry.ranges) == 7
    assert all(not asked.startswith("bytes=0") for asked in registry.ranges)


async def test_the_next_pull_goes_on_too(
    registry: FakeRegistry, store: ImageStore, tmp_path: Path
) -> None:
    """Also one of another process; what is wrong in the file is fetched anew."""
    registry.put()
    layers = [name for name, data in registry.blobs.items() if b"rootfs" not in data]
    partial = tmp_path / "images/partial"
    first, wrong, whole = (partial / name.removeprefix("sha256:") for name in layers[:3])
    first.write_bytes(registry.blobs[layers[0]][:50])
    wrong.write_bytes(b"x" * len(registry.blobs[layers[1]]))
    whole.write_bytes(registry.blobs[layers[2]])
    await ImageStore(tmp_path / "images").pull(registry.name)
    assert registry.ranges == ["bytes=50-"]
    assert not any(path.endswith(layers[2]) for path, _ in registry.seen)
    assert not list(partial.iterdir())


async def test_what_a_refused_image_brought_does_not_stay(
    registry: FakeRegistry, store: ImageStore, tmp_path: Path
) -> None:
    registry.put()
    registry.corrupt = lambda data: data if b"rootfs" in data else b"y" + data[1:]
    with pytest.raises(ImageDamaged):
        await store.pull(registry.name)
    assert not list((tmp_path / "images/partial").iterdir())


def configured(tmp_path: Path, registry: FakeRegistry, *hosts: str) -> ImageStore:
    folder = tmp_path / "certs.d" / f"127.0.0.1:{registry.port}"
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text("\n".join(hosts))
    return ImageStore(tmp_path / "images", settings=[tmp_path / "certs.d"])


async def test_a_mirror_is_asked_first_and_gets_no_password(
    registry: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    """What it does not have, or has wrong, the registry itself is asked for."""
    registry.put()
    other.put()
    other.corrupt = lambda data: data if b"rootfs" in data else b"y" + data[1:]
    other.challenge, other.accepted = 'Basic realm="x"', "Basic ours"
    registry.challenge = 'Basic realm="x"'
    registry.accepted = f"Basic {base64.b64encode(b'user:pass').decode()}"
    host = f'[host."http://127.0.0.1:{other.port}".header]\nAuthorization = "Basic ours"'
    store = configured(tmp_path, registry, host)
    image = await store.pull(registry.name, Credentials("user", "pass"))
    assert image.tags == [registry.name]
    assert {sent for _, sent in other.seen} == {"Basic ours"}
    assert not any("manifests" in path for path, _ in registry.seen)
    assert sum("blobs" in path for path, sent in registry.seen if sent) == len(LAYERS)


async def test_a_mirror_that_is_gone_is_passed_over(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put()
    store = configured(tmp_path, registry, '[host."http://127.0.0.1:1"]')
    assert (await store.pull(registry.name)).tags == [registry.name]


async def test_a_malformed_file_of_mirrors(registry: FakeRegistry, tmp_path: Path) -> None:
    store = configured(tmp_path, registry, "[host.")
    with pytest.raises(RegistryFailure, match=r"hosts\.toml"):
        await store.pull(registry.name)


def test_whom_a_file_names(tmp_path: Path) -> None:
    """containerd's hosts.toml and docker's folders of certificates."""
    for name in ("docker.io", "r.io_5000_", "d.io", "_default"):
        (tmp_path / name).mkdir()
    (tmp_path / "docker.io/hosts.toml").write_text(
        """
        [host."https://mirror.example/v2/hub"]
        override_path = true
        capabilities = ["pull"]
        ca = "ca.pem"
        [host."http://plain.example:5000"]
        """
    )
    mirror, plain, hub = endpoints("docker.io", [tmp_path])
    assert mirror.url == "https://mirror.example/v2/hub"
    assert mirror.capabilities == {"pull"}
    assert mirror.authorities == [tmp_path / "docker.io/ca.pem"]
    assert (plain.url, plain.is_registry) == ("http://plain.example:5000/v2", False)
    assert (hub.url, hub.is_registry) == ("https://registry-1.docker.io/v2", True)
    (tmp_path / "r.io_5000_/hosts.toml").write_text('server = "http://r.io:5000"')
    assert [one.url for one in endpoints("r.io:5000", [tmp_path])] == ["http://r.io:5000/v2"]
    (tmp_path / "d.io/ca.crt").write_text("")
    assert endpoints("d.io", [tmp_path])[0].authorities == [tmp_path / "d.io/ca.crt"]
    (tmp_path / "_default/hosts.toml").write_text('[host."https://all.example"]')
    assert endpoints("other.io", [tmp_path])[0].url == "https://all.example/v2"
    (tmp_path / "_default/hosts.toml").write_text('server = "ftp://x"')
    with pytest.raises(RegistryFailure, match="no http or https address"):
        endpoints("other.io", [tmp_path])


async def test_an_identity_token_is_exchanged(registry: FakeRegistry, store: ImageStore) -> None:
    registry.put()
    realm = f"http://127.0.0.1:{registry.port}/token"
    registry.challenge = f'Bearer realm="{realm}",service="s",scope="repository:app:pull"'
    registry.accepted = "Bearer good"
    await store.pull(registry.name, Credentials(identity_token="secret"))
    assert registry.form["refresh_token"] == "secret"
    assert registry.form["grant_type"] == "refresh_token"
    assert registry.form["scope"] == "repository:app:pull"


DOCKER_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


@pytest.mark.parametrize(
    ("media", "document", "why"),
    [
        (DOCKER_1, {"schemaVersion": 1, "fsLayers": []}, "is no longer supported"),
        ("application/json", {"schemaVersion": 1}, "is no longer supported"),
        (f"{OCI}.manifest.v1+json", {"mediaType": f"{OCI}.index.v1+json"}, "calls itself"),
        (f"{OCI}.index.v1+json", {"manifests": [], "layers": []}, "both an index"),
        (f"{OCI}.manifest.v1+json", {"schemaVersion": 2, "manifests": []}, "not what its media"),
        (
            f"{OCI}.manifest.v1+json",
            {
                "config": {"digest": f"sha256:{'0' * 64}", "size": 1, "mediaType": "x/helm"},
                "layers": [],
            },
            "no image for containers",
        ),
    ],
)
async def test_documents_that_lie(
    registry: FakeRegistry, store: ImageStore, media: str, document: Any, why: str
) -> None:
    registry.manifests["1"] = (media, orjson.dumps(document))
    with pytest.raises(ImageDamaged, match=why):
        await store.pull(registry.name)


async def test_a_pull_ends_before_the_disk_is_full(
    registry: FakeRegistry, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put()
    monkeypatch.setattr(room, "FREE_SHARE_MIN", 2)
    with pytest.raises(RuntimeFailure, match=r"failed to pull and unpack .* too little"):
        await store.pull(registry.name)
