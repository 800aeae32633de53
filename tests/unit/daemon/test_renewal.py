"""Certificates renew themselves, and what uses them takes the new ones without a restart."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest

from sampan.aio.tls import ServingContext, ServingFiles
from sampan.client.http import HttpTransport
from sampan.daemon import pki
from sampan.daemon.config import ClusterConfig
from sampan.daemon.folders import FolderWatch
from sampan.daemon.membership import DUE, LONGEST_S, until_due
from sampan.daemon.renewal import (
    RETRY_S,
    keep_renewed,
    new_key,
    settle_pair,
    write_pair,
)
from sampan.server.http import serve
from tests.kit.clock import FakeClock, settle
from tests.kit.cluster import api_cluster

CLUSTER = ClusterConfig(
    "test", 0, "node", "10.244.0.0/16", "10.96.0.0/12", "127.0.0.1", 6443, "test"
)
NOW = 1_700_000_000.0
DAY = 86400.0
ALL = {"server", "node-client", "admin", "node"}


def test_certificates_are_made_anew_at_a_share_of_their_lifetime(tmp_path: Path) -> None:
    first = pki.ensure(tmp_path / "pki", CLUSTER, NOW)
    assert first.made >= ALL
    assert NOW + 290 * DAY < first.due_s < NOW + 293 * DAY
    old = (tmp_path / "pki/server.crt").read_bytes()

    early = pki.ensure(tmp_path / "pki", CLUSTER, first.due_s - 1)
    assert not early.made
    assert early.due_s == first.due_s

    late = pki.ensure(tmp_path / "pki", CLUSTER, first.due_s)
    assert late.made >= ALL
    assert late.due_s > first.due_s
    assert (tmp_path / "pki/server.crt").read_bytes() != old


async def test_one_timer_wakes_when_something_is_due() -> None:
    clock = FakeClock(NOW)
    calls: list[float] = []

    async def renew() -> float:
        calls.append(clock.now() - NOW)
        return NOW + 3 * LONGEST_S if clock.now() < NOW + 3 * LONGEST_S else NOW + 1e9

    task = asyncio.create_task(keep_renewed(renew, clock))
    await settle()
    await clock.advance(3 * LONGEST_S - 1)
    # Once an hour it looks at the calendar, as a timer stops while the machine sleeps.
    assert calls == [0, LONGEST_S, 2 * LONGEST_S]
    await clock.advance(1)
    assert calls[-1] == 3 * LONGEST_S
    task.cancel()


async def test_a_renewal_that_fails_is_tried_again() -> None:
    clock = FakeClock(NOW)
    calls = 0

    async def renew() -> float:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("no server")
        return NOW + 1e9

    task = asyncio.create_task(keep_renewed(renew, clock))
    await settle()
    assert calls == 1
    await clock.advance(RETRY_S)
    assert calls == 2
    task.cancel()


async def serial_seen(port: int, folder: Path, *, name: str | None) -> int:
    """The serial number of the certificate a new connection gets."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.check_hostname = False
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    try:
        # TLS 1.3: the server's verdict on our certificate comes with its first bytes.
        assert await reader.readexactly(1) == b"."
        return int(writer.get_extra_info("peercert")["serialNumber"], 16)
    finally:
        writer.close()


@pytest.mark.parametrize("name", ["localhost", ""])
async def test_a_listening_socket_takes_new_files(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "pki"
    begin = datetime.datetime.now().timestamp()
    first = pki.ensure(folder, CLUSTER, begin)
    tls = ServingContext(
        ServingFiles(folder / "server.crt", folder / "server.key", (folder / "ca.crt",))
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b".")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls.context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        before = await serial_seen(port, folder, name=name)
        # The files alone change nothing; the reload does.
        lifetime = datetime.timedelta(days=900)
        pki.ensure(folder, CLUSTER, begin, lifetime)
        (folder / "server.crt").unlink()
        pki.ensure(folder, CLUSTER, begin, lifetime)
        assert await serial_seen(port, folder, name=name) == before
        tls.reload()
        after = await serial_seen(port, folder, name=name)
        assert after != before

        # Files that are no good are not taken.
        good = (folder / "server.crt").read_bytes()
        (folder / "server.crt").write_bytes(b"nonsense")
        with pytest.raises(OSError):
            tls.reload()
        assert await serial_seen(port, folder, name=name) == after
        (folder / "server.crt").write_bytes(good)

        # A client CA that is taken away is not believed any more.
        other = tmp_path / "other"
        pki.ensure(other, CLUSTER, begin)
        ours = (folder / "ca.crt").read_bytes()
        (folder / "ca.crt").write_bytes((other / "ca.crt").read_bytes())
        tls.reload()
        (folder / "ca.crt").write_bytes(ours)
        with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
            await serial_seen(port, folder, name=name)
    assert first.made


async def test_a_client_shows_its_new_certificate_from_the_next_connection_on(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "pki"
    pki.ensure(folder, CLUSTER)
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = writer.get_extra_info("peercert")["subject"]
        seen.append(dict(pair for part in subject for pair in part)["commonName"])
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    files = ServingFiles(folder / "server.crt", folder / "server.key", (folder / "ca.crt",))
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ServingContext(files).context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        transport = HttpTransport(
            f"https://127.0.0.1:{port}",
            ca=folder / "ca.crt",
            cert=folder / "admin.crt",
            key=folder / "admin.key",
        )
        await transport.request("GET", "/")
        await transport.request("GET", "/")
        transport.renew(ca=folder / "ca.crt", cert=folder / "node.crt", key=folder / "node.key")
        await transport.request("GET", "/")
        with pytest.raises(OSError):
            transport.renew(
                ca=folder / "ca.crt", cert=folder / "admin.crt", key=folder / "node.key"
            )
        await transport.request("GET", "/")
        await transport.close()
    assert seen == ["kubernetes-admin", "system:node:node"]


async def test_changes_of_a_folder_are_told_once(tmp_path: Path) -> None:
    told = 0
    heard = asyncio.Event()

    def changed() -> None:
        nonlocal told
        told += 1
        heard.set()

    watch = FolderWatch(tmp_path, changed)
    watch.SETTLE_S = 0.01  # type: ignore[misc]
    watch.open()
    try:
        (tmp_path / "a").write_text("1")
        (tmp_path / "b").write_text("2")
        await asyncio.wait_for(heard.wait(), 5)
        assert told == 1
    finally:
        watch.close()


def test_a_crash_between_key_and_certificate_leaves_a_pair(tmp_path: Path) -> None:
    pki.ensure(tmp_path, CLUSTER, NOW)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def certify(name: str) -> tuple[object, bytes]:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization

        key = new_key()
        ca = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
        leaf = pki.Leaf(name, "system:node:node", "system:nodes", client=True)
        moment = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
        validity = pki.Validity(moment, moment + datetime.timedelta(days=1))
        made = pki.sign((ca, pki.ensure_key(tmp_path / "ca.key")), leaf, key.public_key(), validity)
        return key, made.public_bytes(serialization.Encoding.PEM)

    key, cert = certify("node")
    write_pair(tmp_path, "node", key, cert)  # type: ignore[arg-type]
    context.load_cert_chain(tmp_path / "node.crt", tmp_path / "node.key")

    # The crash came before the certificate: the waiting key is forgotten.
    (tmp_path / "node.key.next").write_bytes((tmp_path / "admin.key").read_bytes())
    settle_pair(tmp_path, "node")
    assert not (tmp_path / "node.key.next").exists()
    context.load_cert_chain(tmp_path / "node.crt", tmp_path / "node.key")

    # The crash came behind it: the waiting key is the one.
    key, cert = certify("node")
    old = (tmp_path / "node.key").read_bytes()
    write_pair(tmp_path, "node", key, cert)  # type: ignore[arg-type]
    (tmp_path / "node.key").rename(tmp_path / "node.key.next")
    (tmp_path / "node.key").write_bytes(old)
    with pytest.raises(ssl.SSLError):
        context.load_cert_chain(tmp_path / "node.crt", tmp_path / "node.key")
    settle_pair(tmp_path, "node")
    context.load_cert_chain(tmp_path / "node.crt", tmp_path / "node.key")


async def test_a_node_that_joined_sleeps_until_its_certificates_are_due(tmp_path: Path) -> None:
    clock = FakeClock(NOW)
    (tmp_path / DUE).write_text(str(clock.now() + 2 * LONGEST_S + 5))
    waiting = asyncio.ensure_future(until_due(tmp_path, clock))
    await clock.advance(2 * LONGEST_S)
    assert not waiting.done()
    await clock.advance(10)
    await waiting
    # What nobody wrote down is looked at now.
    (tmp_path / DUE).unlink()
    await until_due(tmp_path, clock)


async def test_an_authority_that_is_no_good_is_named_and_stops_the_start(tmp_path: Path) -> None:
    """As the administrator's other files do: a start that is tried again finds the same one."""
    folder, bad = tmp_path / "pki", tmp_path / "client-ca.crt"
    pki.ensure(folder, CLUSTER, datetime.datetime.now().timestamp())
    async with api_cluster(client_cas=(bad,)) as cluster:
        for content in (b"", b"\x80"):
            bad.write_bytes(content)
            with pytest.raises(ValueError, match=str(bad)):
                await serve(cluster.server, [], folder / "server.crt", folder / "server.key")
