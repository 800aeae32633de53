"""Users that a proxy in front of the server vouches for, over TLS: whose word counts."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sampan.server.exchange import User
from sampan.server.http import serve
from tests.kit.cluster import api_cluster, server_files

REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
HEADERS = [
    ("X-Remote-User", "ann"),
    ("X-Remote-Uid", "7"),
    ("X-Remote-Group", "dev"),
    ("X-Remote-Group", "ops"),
    ("X-Remote-Extra-Acme.com%2Fproject", "some"),
    ("X-Remote-Extra-Acme.com%2Fproject", "more"),
]
ANN = {
    "username": "ann",
    "uid": "7",
    "groups": ["dev", "ops", "system:authenticated"],
    "extra": {"acme.com/project": ["some", "more"]},
}


def signed(folder: Path, name: str, issuer: str, *, days: int = 1) -> tuple[Path, Path]:
    """A client certificate of a CA in the server's files, and its key."""
    files = server_files()
    ca = x509.load_pem_x509_certificate((files / f"{issuer}.crt").read_bytes())
    ca_key = serialization.load_pem_private_key((files / f"{issuer}.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(ca_key, hashes.SHA256())
    )
    cert, secret = folder / "client.crt", folder / "client.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, secret


@asynccontextmanager
async def listening() -> AsyncIterator[str]:
    files = server_files()
    async with api_cluster(tokens={"t": User("bob")}) as cluster:
        sock = socket.create_server(("127.0.0.1", 0))
        listener = await serve(cluster.server, [sock], files / "server.crt", files / "server.key")
        try:
            yield f"https://localhost:{sock.getsockname()[1]}"
        finally:
            await listener.close()


async def whoami(
    url: str, pair: tuple[Path, Path] | None, headers: list[tuple[str, str]]
) -> tuple[int, Any]:
    context = ssl.create_default_context(cafile=str(server_files() / "ca.crt"))
    if pair is not None:
        context.load_cert_chain(*pair)
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.post(url + REVIEWS, json={}, headers=headers) as answer,
    ):
        body = await answer.json()
        return answer.status, body["status"]["userInfo"] if answer.status == 201 else body


def pair_of(name: str) -> tuple[Path, Path]:
    return server_files() / f"{name}.crt", server_files() / f"{name}.key"


async def test_a_front_proxy_says_who_asks() -> None:
    async with listening() as url:
        assert await whoami(url, pair_of("front-proxy-client"), HEADERS) == (201, ANN)
        nobody = [("X-Remote-User", "system:anonymous"), ("X-Remote-Group", "x")]
        status, _ = await whoami(url, pair_of("front-proxy-client"), nobody)
        assert status == 403, "anonymous does not become authenticated on the way"


async def test_the_proxy_itself_is_nobody(tmp_path: Path) -> None:
    async with listening() as url:
        proxy = pair_of("front-proxy-client")
        assert (await whoami(url, proxy, []))[0] == 401
        assert (await whoami(url, proxy, [("X-Remote-Group", "system:masters")]))[0] == 401
        # It may pass a token on, as anybody.
        status, info = await whoami(url, proxy, [("Authorization", "Bearer t")])
        assert (status, info["username"]) == (201, "bob")


@pytest.mark.parametrize("name", ["kubernetes-admin", "front-proxy-clients"])
async def test_other_certificates_of_the_proxy_s_ca_are_nobody(tmp_path: Path, name: str) -> None:
    async with listening() as url:
        pair = signed(tmp_path, name, "front-proxy-ca")
        assert (await whoami(url, pair, HEADERS))[0] == 401
        assert (await whoami(url, pair, []))[0] == 401


async def test_the_headers_of_everybody_else_mean_nothing(tmp_path: Path) -> None:
    async with listening() as url:
        status, info = await whoami(url, pair_of("admin"), HEADERS)
        assert (status, info["username"]) == (201, "kubernetes-admin")
        # The proxy's name under the CA of clients is a user's name like any other.
        status, info = await whoami(url, signed(tmp_path, "front-proxy-client", "ca"), HEADERS)
        assert (status, info["username"]) == (201, "front-proxy-client")
        status, info = await whoami(url, None, [*HEADERS, ("Authorization", "Bearer t")])
        assert (status, info["username"]) == (201, "bob")
        assert (await whoami(url, None, HEADERS))[0] == 403
