"""The cluster's registry by the distribution specification: pull, push, content discovery and
management as its conformance suite asks for them, what is refused, and what pushes leave."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import ssl
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from sampan.cli.programs import push
from sampan.node.registry.serve import RegistryServer
from sampan.node.visitors import Refused, Visitor
from sampan.runtime.build import File, ImageConfig, build_config, build_layer
from sampan.runtime.depot import blobs, depot
from sampan.runtime.elsewhere import Elsewhere
from sampan.runtime.images import ImageStore
from sampan.runtime.interface import ImageNotFound
from sampan.runtime.manifest import machine
from sampan.runtime.mirrors import Endpoint
from tests.kit.ports import free_port

pytestmark = pytest.mark.root

OCI = "application/vnd.oci.image"
MANIFEST, INDEX = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json"
LAYER = build_layer({"hello": File(b"world")})


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(data: bytes, kind: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}


class Users:
    """Passwords are names; each may do what `rights` say, and "node" is a node."""

    def __init__(self) -> None:
        self.rights: set[tuple[str, str, str]] = set()

    async def identify(self, certificate: Any, authorization: str) -> Visitor:
        scheme, _, name = authorization.partition(" ")
        if scheme != "Bearer" or not name:
            raise Refused(401, "Unauthorized")
        return Visitor(name, ("system:nodes",) if name == "node" else ())

    async def may(self, visitor: Visitor, asked: Mapping[str, Mapping[str, str]]) -> bool:
        (part,) = asked.values()
        path, verb = part["path"], part["verb"]
        return visitor.name == "admin" or (visitor.name, verb, path) in self.rights


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = ImageStore(folder / "images")
        self.users = Users()
        self.port = free_port()
        config: Any = type("C", (), {"address": "127.0.0.1", "name": "n"})
        self.server = RegistryServer(config, self.users, self.images, self.port)  # type: ignore[arg-type]
        self.http = aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", auto_decompress=False)
        self.user = "admin"

    async def call(
        self, method: str, path: str, data: Any = b"", **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.user:
            sent.setdefault("Authorization", aiohttp.encode_basic_auth("x", self.user))
        async with self.http.request(
            method, path, data=io.BytesIO(data), headers=sent, allow_redirects=False
        ) as answer:
            return answer.status, answer.headers, await answer.read()

    async def error(self, method: str, path: str, data: Any = b"", **headers: str) -> Any:
        """(status, code)"""
        status, _, body = await self.call(method, path, data, **headers)
        return status, orjson.loads(body)["errors"][0]["code"]

    async def push_blob(self, data: bytes, name: str = "app") -> None:
        path = f"/v2/{name}/blobs/uploads/?digest={digest(data)}"
        status, headers, _ = await self.call("POST", path, data)
        assert status == 201
        assert headers["Location"] == f"/v2/{name}/blobs/{digest(data)}"

    async def push(
        self, tag: str = "1", layer: bytes = LAYER, name: str = "app", **more: Any
    ) -> bytes:
        """An image of one layer; its manifest."""
        config = build_config(ImageConfig(command=["run"]), [layer])
        packed = gzip.compress(layer, mtime=0)
        for data in (config, packed):
            await self.push_blob(data, name)
        manifest = orjson.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": descriptor(config, f"{OCI}.config.v1+json"),
                "layers": [descriptor(packed, f"{OCI}.layer.v1.tar+gzip")],
                **more,
            }
        )
        version = tag or digest(manifest)
        assert (await self.put(version, manifest, name=name))[0] == 201
        return manifest

    async def put(
        self, version: str, data: bytes, kind: str = MANIFEST, name: str = "app"
    ) -> tuple[int, Mapping[str, str], bytes]:
        return await self.call("PUT", f"/v2/{name}/manifests/{version}", data, Content_Type=kind)

    @property
    def name(self) -> str:
        return f"localhost:{self.port}/app"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = Bench(tmp_path)
    serving = asyncio.create_task(found.server.run())
    await asyncio.sleep(0)
    yield found
    await found.http.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_disk_that_fails_is_told_and_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails, opened = [OSError(28, "No space left on device")], depot.Depot.open

    def full(self: depot.Depot) -> None:
        if fails:
            raise fails.pop()
        opened(self)

    monkeypatch.setattr(depot.Depot, "open", full)
    port = free_port()
    server = RegistryServer(bench.server._config, bench.users, bench.images, port)  # type: ignore[arg-type]
    failing = asyncio.create_task(server.run())
    await asyncio.sleep(0)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(OSError, match="No space left"):
        await failing
    writer.close()
    # Whoever supervises it runs it again.
    again = asyncio.create_task(server.run())
    await asyncio.sleep(0)
    async with bench.http.get(f"http://127.0.0.1:{port}/v2/") as answer:
        assert answer.status == 401
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)


async def test_pushed_is_loaded(bench: Bench) -> None:
    """Under each of the registry's names, also once its layers have been collected."""
    manifest = await bench.push()
    image = bench.images.find(f"{bench.name}:1")
    assert image is not None
    assert image.tags == [f"{bench.name}:1"]
    assert image.digests == [f"{bench.name}@{digest(manifest)}"]
    assert image.command == ["run"]
    assert (bench.images.layers(image.id)[0] / "hello").read_bytes() == b"world"
    assert bench.images.find(f"127.0.0.1:{bench.port}/app:1") == image
    await bench.images.remove(image.id)
    assert bench.images.find(f"{bench.name}:1") is None
    assert (await bench.images.pull(f"127.0.0.1:{bench.port}/app:1")).id == image.id
    with pytest.raises(ImageNotFound, match="app:2: not found"):
        await bench.images.pull(f"{bench.name}:2")


async def test_a_commands_own_push_is_loaded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of an add-on's image, also where the environment names a proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    image = LAYER, ImageConfig(command=["run"])
    host = f"http://127.0.0.1:{bench.port}"
    await asyncio.to_thread(push, host, "admin", "team/tool:local", image)
    found = bench.images.find(f"localhost:{bench.port}/team/tool:local")
    assert found is not None
    with pytest.raises(OSError, match="403"):
        await asyncio.to_thread(push, host, "guest", "team/tool:local", image)


async def test_another_node_pulls_by_the_same_names(bench: Bench) -> None:
    manifest = await bench.push()
    other = ImageStore(bench.folder / "other")
    where = Endpoint(
        f"http://127.0.0.1:{bench.port}/v2",
        headers=[("Authorization", aiohttp.encode_basic_auth("x", "node"))],
    )
    other.local = Elsewhere(f"localhost:{bench.port}", bench.server.depot().domains, [where])
    image = await other.pull(f"127.0.0.1:{bench.port}/app:1")
    assert image.id == getattr(bench.images.find(f"{bench.name}:1"), "id", "")
    assert other.find(f"{bench.name}@{digest(manifest)}") == image


async def test_pull(bench: Bench) -> None:
    manifest = await bench.push()
    status, headers, _ = await bench.call("GET", "/v2/")
    assert status == 200
    assert headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    for version in ("1", digest(manifest)):
        for method, body in (("GET", manifest), ("HEAD", b"")):
            status, headers, data = await bench.call(method, f"/v2/app/manifests/{version}")
            assert (status, data) == (200, body)
            assert headers["Docker-Content-Digest"] == digest(manifest)
            assert headers["Content-Type"] == MANIFEST
            assert headers["Content-Length"] == str(len(manifest))
    blob = gzip.compress(LAYER, mtime=0)
    path = f"/v2/app/blobs/{digest(blob)}"
    assert (await bench.call("GET", path))[2] == blob
    status, headers, data = await bench.call("HEAD", path)
    assert (status, headers["Content-Length"], data) == (200, str(len(blob)), b"")
    status, headers, data = await bench.call("GET", path, Range="bytes=5-9")
    assert (status, data) == (206, blob[5:10])
    assert headers["Content-Range"] == f"bytes 5-9/{len(blob)}"
    missing = digest(b"?")
    assert await bench.error("GET", "/v2/app/manifests/9") == (404, "MANIFEST_UNKNOWN")
    assert await bench.error("GET", f"/v2/app/blobs/{missing}") == (404, "BLOB_UNKNOWN")
    assert await bench.error("GET", f"/v2/other/blobs/{digest(blob)}") == (404, "BLOB_UNKNOWN")
    assert await bench.error("GET", "/v2/other/manifests/1") == (404, "NAME_UNKNOWN")


async def test_push_in_chunks(bench: Bench) -> None:
    data = bytes(range(256)) * 20_000
    status, headers, _ = await bench.call("POST", "/v2/app/blobs/uploads/")
    where = headers["Location"]
    assert (status, headers["Range"]) == (202, "0-0")
    half = len(data) // 2
    status, headers, _ = await bench.call(
        "PATCH", where, data[:half], Content_Range=f"0-{half - 1}"
    )
    assert (status, headers["Range"]) == (202, f"0-{half - 1}")
    wrong = {"Content_Range": f"{half + 1}-{len(data)}"}
    assert await bench.error("PATCH", where, data[half:], **wrong) == (416, "BLOB_UPLOAD_INVALID")
    status, headers, _ = await bench.call("GET", where)
    assert (status, headers["Range"]) == (204, f"0-{half - 1}")
    end = f"{where}?digest={digest(data)}"
    status, headers, _ = await bench.call("PUT", end, data[half:])
    assert (status, headers["Docker-Content-Digest"]) == (201, digest(data))
    assert (await bench.call("GET", headers["Location"]))[2] == data
    assert await bench.error("GET", where) == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_uploads_that_are_not_what_they_say(bench: Bench) -> None:
    wrong = f"/v2/app/blobs/uploads/?digest={digest(b'other')}"
    assert await bench.error("POST", wrong, b"data") == (400, "DIGEST_INVALID")
    for name in ("sha512:00", "../../etc/passwd", "", "sha256:" + "0" * 63):
        path = f"/v2/app/blobs/uploads/?digest={name}"
        assert await bench.error("POST", path, b"data") == (400, "DIGEST_INVALID")
    _, headers, _ = await bench.call("POST", "/v2/app/blobs/uploads/")
    where = headers["Location"].replace("/app/", "/other/")
    assert await bench.error("PATCH", where, b"x") == (404, "BLOB_UPLOAD_UNKNOWN")
    assert (await bench.call("DELETE", headers["Location"]))[0] == 204
    root = bench.images.registry
    assert not list((root / "uploads").iterdir())
    assert not list((root / "blobs").iterdir())
    assert not list((root / "repositories").iterdir())


async def test_uploads_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "BLOB_BYTES_MAX", 100)
    path = f"/v2/app/blobs/uploads/?digest={digest(bytes(101))}"
    assert await bench.error("POST", path, bytes(101)) == (413, "SIZE_INVALID")
    monkeypatch.setattr(blobs, "UPLOADS_MAX", 1)
    assert (await bench.call("POST", "/v2/app/blobs/uploads/"))[0] == 202
    assert await bench.error("POST", "/v2/app/blobs/uploads/") == (429, "TOOMANYREQUESTS")
    monkeypatch.setattr(blobs, "UPLOAD_IDLE_S", -1)
    assert (await bench.call("POST", "/v2/app/blobs/uploads/"))[0] == 202
    monkeypatch.setattr(blobs, "FREE_SHARE_MIN", 2)
    assert await bench.error("POST", "/v2/app/blobs/uploads/") == (507, "DENIED")


async def test_blobs_are_mounted_from_where_one_may_read(bench: Bench) -> None:
    await bench.push_blob(b"data", "team/a")
    path = f"/v2/b/blobs/uploads/?mount={digest(b'data')}&from=team/a"
    bench.user = "eve"
    bench.users.rights = {("eve", "put", "/v2/b"), ("eve", "get", "/v2/b")}
    assert (await bench.call("POST", path))[0] == 202, "it has to be pushed"
    assert await bench.error("GET", f"/v2/b/blobs/{digest(b'data')}") == (404, "BLOB_UNKNOWN")
    bench.users.rights.add(("eve", "get", "/v2/team/a"))
    status, headers, _ = await bench.call("POST", path)
    assert (status, headers["Location"]) == (201, f"/v2/b/blobs/{digest(b'data')}")
    assert (await bench.call("GET", headers["Location"]))[2] == b"data"


async def test_manifests_that_are_refused(bench: Bench) -> None:
    config = descriptor(b"c", f"{OCI}.config.v1+json")
    good = {"schemaVersion": 2, "config": config, "layers": []}
    assert (await bench.put("1", orjson.dumps(good)))[0] == 404, "its blobs are not here"
    await bench.push_blob(b"c")
    path = "/v2/app/manifests/1"
    for document, kind in (
        (b"{", MANIFEST),
        (b"[]", MANIFEST),
        (orjson.dumps({**good, "schemaVersion": 1}), MANIFEST),
        (orjson.dumps(good), "text/plain"),
        (orjson.dumps({**good, "mediaType": INDEX}), MANIFEST),
        (orjson.dumps({**good, "manifests": []}), MANIFEST),
        (orjson.dumps({**good, "config": {**config, "digest": "sha256:../x"}}), MANIFEST),
        (orjson.dumps({**good, "layers": [{"digest": 5}]}), MANIFEST),
        (orjson.dumps({**good, "subject": "x"}), MANIFEST),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ):
        found = await bench.error("PUT", path, document, Content_Type=kind)
        assert found == (400, "MANIFEST_INVALID"), document
    other = f"/v2/app/manifests/{digest(b'x')}"
    sent = {"Content_Type": MANIFEST}
    assert await bench.error("PUT", other, orjson.dumps(good), **sent) == (400, "DIGEST_INVALID")
    large = bytes(9 * 1024 * 1024)
    assert (await bench.error("PUT", path, large, **sent))[0] == 413
    assert await bench.error("GET", path) == (404, "MANIFEST_UNKNOWN")


async def test_an_image_that_lies_is_not_taken(bench: Bench) -> None:
    """A layer that is not what the configuration says, or leads out, leaves nothing behind."""
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../x"))
    for layer, plain in ((b"other", LAYER), (evil.getvalue(), evil.getvalue())):
        config = build_config(ImageConfig(), [plain])
        await bench.push_blob(config)
        await bench.push_blob(layer)
        manifest = {
            "schemaVersion": 2,
            "config": descriptor(config, f"{OCI}.config.v1+json"),
            "layers": [descriptor(layer, f"{OCI}.layer.v1.tar+gzip")],
        }
        path, sent = "/v2/app/manifests/1", {"Content_Type": MANIFEST}
        found = await bench.error("PUT", path, orjson.dumps(manifest), **sent)
        assert found == (400, "MANIFEST_INVALID")
    assert bench.images.list() == []
    assert not list((bench.folder / "images/layers").iterdir())
    assert not list((bench.folder / "images/drafts").iterdir())
    assert await bench.error("GET", "/v2/app/manifests/1") == (404, "MANIFEST_UNKNOWN")


async def test_indexes_and_other_artifacts(bench: Bench) -> None:
    single = await bench.push(tag="")
    assert bench.images.find(f"{bench.name}@{digest(single)}") is not None
    far = {"os": "linux", "architecture": "s390x"}
    here = {"os": "linux", "architecture": machine()}
    index = orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                descriptor(b"far", MANIFEST, platform=far),
                descriptor(single, MANIFEST, platform=here),
            ],
        }
    )
    assert (await bench.put("multi", index, INDEX))[0] == 201
    image = bench.images.find(f"{bench.name}:multi")
    assert image is not None
    assert f"{bench.name}@{digest(index)}" in image.digests
    await bench.push_blob(b"chart", "charts/c")
    chart = {
        "schemaVersion": 2,
        "config": descriptor(b"chart", "application/vnd.cncf.helm.config.v1+json"),
        "layers": [descriptor(b"chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
    }
    assert (await bench.put("1", orjson.dumps(chart), name="charts/c"))[0] == 201
    assert bench.images.find(f"localhost:{bench.port}/charts/c:1") is None
    with pytest.raises(ImageNotFound, match="no image for linux/"):
        await bench.images.pull(f"localhost:{bench.port}/charts/c:1")


async def test_names_are_listed_in_pages(bench: Bench) -> None:
    for tag in ("b", "a", "c"):
        await bench.push(tag)
    await bench.push("1", name="team/other")
    _, headers, body = await bench.call("GET", "/v2/app/tags/list?n=2")
    assert orjson.loads(body) == {"name": "app", "tags": ["a", "b"]}
    assert headers["Link"] == '</v2/app/tags/list?n=2&last=b>; rel="next"'
    _, headers, body = await bench.call("GET", "/v2/app/tags/list?n=2&last=b")
    assert orjson.loads(body)["tags"] == ["c"]
    assert "Link" not in headers
    assert orjson.loads((await bench.call("GET", "/v2/app/tags/list?n=0"))[2])["tags"] == []
    assert await bench.error("GET", "/v2/app/tags/list?n=x") == (400, "UNSUPPORTED")
    _, _, body = await bench.call("GET", "/v2/_catalog")
    assert orjson.loads(body) == {"repositories": ["app", "team/other"]}


async def test_referrers(bench: Bench) -> None:
    subject = await bench.push()
    await bench.push_blob(b"{}")
    signature = orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/x-signature",
            "config": descriptor(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [],
            "subject": descriptor(subject, MANIFEST),
            "annotations": {"by": "me"},
        }
    )
    status, headers, _ = await bench.put(digest(signature), signature)
    assert (status, headers["OCI-Subject"]) == (201, digest(subject))
    path = f"/v2/app/referrers/{digest(subject)}"
    status, headers, body = await bench.call("GET", path)
    assert (status, headers["Content-Type"]) == (200, INDEX)
    (found,) = orjson.loads(body)["manifests"]
    assert found == descriptor(
        signature, MANIFEST, artifactType="application/x-signature", annotations={"by": "me"}
    )
    status, headers, body = await bench.call("GET", f"{path}?artifactType=none")
    assert headers["OCI-Filters-Applied"] == "artifactType"
    assert orjson.loads(body)["manifests"] == []
    status, _, body = await bench.call("GET", f"/v2/none/referrers/{digest(b'x')}")
    assert (status, orjson.loads(body)["manifests"]) == (200, [])
    assert (await bench.call("GET", "/v2/app/referrers/x"))[0] == 400


async def test_what_is_deleted_gives_its_room_back(bench: Bench) -> None:
    manifest = await bench.push()
    files = bench.images.registry / "blobs"
    assert len(list(files.iterdir())) == 3
    blob = gzip.compress(LAYER, mtime=0)
    path = f"/v2/app/blobs/{digest(blob)}"
    assert await bench.error("DELETE", path) == (405, "UNSUPPORTED")
    await bench.push("2")
    assert (await bench.call("DELETE", "/v2/app/manifests/2"))[0] == 202
    assert (await bench.call("GET", "/v2/app/manifests/1"))[0] == 200
    assert (await bench.call("DELETE", f"/v2/app/manifests/{digest(manifest)}"))[0] == 202
    assert not list(files.iterdir())
    assert await bench.error("GET", "/v2/app/tags/list") == (404, "NAME_UNKNOWN")
    assert await bench.error("DELETE", "/v2/app/manifests/1") == (404, "NAME_UNKNOWN")
    assert bench.images.find(f"{bench.name}:1") is not None, "pods may use it still"


async def test_what_lost_its_tag_is_swept_after_a_day(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await bench.push()
    second = await bench.push(layer=build_layer({"new": File(b"")}))
    for version in (digest(first), digest(second)):
        assert (await bench.call("GET", f"/v2/app/manifests/{version}"))[0] == 200
    monkeypatch.setattr(depot, "REPLACED_S", -1)
    monkeypatch.setattr(depot, "_SWEEP_S", -1)
    await bench.push("other", layer=build_layer({"other": File(b"")}))
    assert (await bench.call("GET", f"/v2/app/manifests/{digest(first)}"))[0] == 404
    assert (await bench.call("GET", f"/v2/app/manifests/{digest(second)}"))[0] == 200


async def test_a_sweep_takes_nothing_that_has_just_come(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a blob's arrival and its repository's record."""
    content = bench.server.depot()
    link = content.repositories.link

    def sweep_and_link(name: str, digest: str) -> None:
        content._sweep()
        link(name, digest)

    monkeypatch.setattr(content.repositories, "link", sweep_and_link)
    await bench.push_blob(b"data")
    assert (await bench.call("GET", f"/v2/app/blobs/{digest(b'data')}"))[2] == b"data"


async def test_it_is_there_after_a_restart(bench: Bench) -> None:
    manifest = await bench.push()
    (bench.images.registry / "uploads/left").write_bytes(b"by a crash")
    again = depot.Depot(bench.images.registry, bench.images, ["localhost:1"])
    again.open()
    assert again.find("app", "1")[0] == digest(manifest)
    assert not list((bench.images.registry / "uploads").iterdir())


async def test_who_may(bench: Bench) -> None:
    await bench.push()
    bench.user = ""
    status, headers, _ = await bench.call("GET", "/v2/")
    assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="sampan"')
    for malformed in ("Basic !", "Basic eA==", "Digest x"):
        assert await bench.error("GET", "/v2/", Authorization=malformed) == (401, "UNAUTHORIZED")
    bench.user = "eve"
    assert (await bench.call("GET", "/v2/"))[0] == 200
    for method, path in (
        ("GET", "/v2/app/manifests/1"),
        ("GET", "/v2/_catalog"),
        ("POST", "/v2/app/blobs/uploads/"),
        ("DELETE", "/v2/app/manifests/1"),
    ):
        assert await bench.error(method, path) == (403, "DENIED")
    bench.users.rights = {("eve", "get", "/v2/app")}
    assert (await bench.call("GET", "/v2/app/manifests/1"))[0] == 200
    assert await bench.error("POST", "/v2/app/blobs/uploads/") == (403, "DENIED")
    assert await bench.error("DELETE", "/v2/app/manifests/1") == (403, "DENIED")
    bench.user = "node"
    assert (await bench.call("GET", "/v2/app/manifests/1"))[0] == 200
    assert await bench.error("PUT", "/v2/app/manifests/1") == (403, "DENIED")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v2/../app/manifests/1", (400, "NAME_INVALID")),
        ("/v2/a/%2e%2e/b/manifests/1", (400, "NAME_INVALID")),
        ("/v2/a%2f..%2fb/tags/list", (400, "NAME_INVALID")),
        ("/v2/APP/manifests/1", (400, "NAME_INVALID")),
        (f"/v2/{'a' * 300}/manifests/1", (400, "NAME_INVALID")),
        ("/v2/app/blobs/..%2f..%2fx", (404, "NAME_UNKNOWN")),
        ("/v2/app/blobs/uploads/..%2f", (404, "NAME_UNKNOWN")),
        ("/v2/app/blobs/sha256:..", (400, "DIGEST_INVALID")),
        ("/v1/", (404, "NAME_UNKNOWN")),
    ],
)
async def test_no_path_leads_elsewhere(bench: Bench, path: str, found: Any) -> None:
    from yarl import URL

    where: Any = URL(f"http://127.0.0.1:{bench.port}{path}", encoded=True)
    assert await bench.error("GET", where) == found


async def test_nothing_is_loaded_before_somebody_comes(bench: Bench) -> None:
    """Not even its folder is there; a stalled body does not stay (negative: no TLS needed)."""
    assert not bench.images.registry.exists()
    assert bench.server._runner is None
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    writer.write(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"401" in await reader.readline()
    writer.close()
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("127.0.0.1", bench.port, ssl=ssl.create_default_context())
