"""Encrypted at rest: on disk only what is sealed, in memory only what it says."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sampan.server.documents import BadDocument
from sampan.server.encryption import build, read
from sampan.store import journal
from sampan.store.encryption import (
    AesCbc,
    AesGcm,
    Chain,
    Encryption,
    Identity,
    Provider,
    Secretbox,
    Unreadable,
)
from sampan.store.interface import Damaged
from sampan.store.sqlite import SqliteStore

KEY = "/registry/secrets/default/s"
PLAIN = b'{"data":{"password":"cGxhaW4gYXMgZGF5"}}'
ONE, TWO = b"1" * 32, b"2" * 16
MODES: dict[str, Callable[[str, bytes], Provider]] = {
    "aesgcm": AesGcm,
    "aescbc": AesCbc,
    "secretbox": Secretbox,
}


def provider(mode: str, name: str = "one", secret: bytes = ONE) -> dict[str, Any]:
    if mode == "identity":
        return {"identity": {}}
    return {mode: {"keys": [{"name": name, "secret": base64.b64encode(secret).decode()}]}}


def kms(**fields: Any) -> dict[str, Any]:
    return {"kms": {"apiVersion": "v2", "name": "vault", "endpoint": "unix:///x.sock", **fields}}


def config(*providers: Mapping[str, Any], resources: tuple[str, ...] = ("secrets",)) -> Any:
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": [*resources], "providers": [*providers]}],
    }


def codec(*providers: Mapping[str, Any], resources: tuple[str, ...] = ("secrets",)) -> Encryption:
    return build(config(*providers, resources=resources))


def on_disk(path: Path) -> bytes:
    """Everything the database's files hold, the write-ahead log too."""
    files = (path, path.with_name(path.name + "-wal"))
    return b"".join(item.read_bytes() for item in files if item.exists())


def stored(path: Path, key: str = KEY) -> bytes:
    database = sqlite3.connect(path)
    query = "SELECT value FROM log WHERE key = ? ORDER BY revision DESC"
    (value,) = database.execute(query, (key,)).fetchone()
    database.close()
    assert isinstance(value, bytes)
    return value


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [b"", b"x" * 15, b"x" * 16, PLAIN])
def test_what_is_sealed_opens_with_its_key_only(mode: str, value: bytes) -> None:
    one = MODES[mode]("one", ONE)
    sealed = one.seal(KEY, value)
    assert sealed.startswith(f"k8s:enc:{mode}:v1:one:".encode())
    assert one.open(KEY, sealed) == value
    assert one.seal(KEY, value) != sealed
    with pytest.raises(Unreadable):
        MODES[mode]("one", b"3" * 32).open(KEY, sealed)


def test_a_value_that_is_moved_or_changed_does_not_open() -> None:
    one = AesGcm("one", ONE)
    sealed = one.seal(KEY, PLAIN)
    for key, data in (
        ("/registry/secrets/other/s", sealed),
        (KEY, sealed[:-1] + bytes((sealed[-1] ^ 1,))),
        (KEY, sealed[:30]),
    ):
        with pytest.raises(Unreadable):
            one.open(key, data)


def test_the_first_key_writes_and_all_read() -> None:
    old, new = AesCbc("old", ONE), AesGcm("new", TWO)
    chain = Chain((new, old, Identity()))
    assert chain.open(KEY, chain.seal(KEY, PLAIN)) == (PLAIN, False)
    assert chain.open(KEY, old.seal(KEY, PLAIN)) == (PLAIN, True)
    assert chain.open(KEY, PLAIN) == (PLAIN, True)
    # Two keys of one name: each is tried.
    assert Chain((AesGcm("k", TWO), AesGcm("k", ONE))).open(
        KEY, AesGcm("k", ONE).seal(KEY, PLAIN)
    ) == (PLAIN, True)


@pytest.mark.parametrize("encrypted", [True, False])
async def test_nothing_plain_is_on_disk(tmp_path: Path, encrypted: bool) -> None:
    path = tmp_path / "state.db"
    rules = codec(provider("aesgcm")) if encrypted else None
    store = SqliteStore.open(path, rules)
    await store.put(KEY, PLAIN)
    # Both while the log is there and when it was carried over.
    assert (PLAIN in on_disk(path)) != encrypted
    await store.close()
    assert (PLAIN in on_disk(path)) != encrypted
    store = SqliteStore.open(path, rules)
    record = store.get(KEY)
    assert record is not None
    assert record.value == PLAIN
    assert not store.is_stale(record)
    await store.close()


async def test_values_go_from_plain_to_a_key_to_another_and_back(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    steps = [
        (codec(provider("aesgcm"), provider("identity")), b"k8s:enc:aesgcm:v1:one:"),
        (codec(provider("aescbc", "two", TWO), provider("aesgcm")), b"k8s:enc:aescbc:v1:two:"),
        (codec(provider("identity"), provider("aescbc", "two", TWO)), b"{"),
    ]
    store = SqliteStore.open(path)
    await store.put(KEY, PLAIN)
    await store.put("/registry/configmaps/default/c", b"{}")
    await store.close()
    for rules, mark in steps:
        store = SqliteStore.open(path, rules)
        record = store.get(KEY)
        assert record is not None
        assert record.value == PLAIN
        assert store.is_stale(record)
        record = await store.put(KEY, PLAIN)
        assert not store.is_stale(record)
        await store.close()
        assert stored(path).startswith(mark)
        assert stored(path, "/registry/configmaps/default/c") == b"{}"
        # What was superseded leaves the disk with the next start.
        store = SqliteStore.open(path, rules)
        assert (PLAIN in on_disk(path)) == (mark == b"{")
        assert store.oldest == store.revision + 1
        await store.close()
    store = SqliteStore.open(path)
    record = store.get(KEY)
    assert record is not None
    assert record.value == PLAIN
    await store.close()


@pytest.mark.parametrize("rules", [None, codec(provider("aesgcm", "other", TWO))])
async def test_what_no_key_opens_stops_the_start(tmp_path: Path, rules: Encryption | None) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore.open(path, codec(provider("aesgcm")))
    await store.put(KEY, PLAIN)
    await store.close()
    before = path.read_bytes()
    with pytest.raises(Damaged, match=rf"secrets.*{KEY}, revision 1\) cannot be decrypted"):
        SqliteStore.open(path, rules)
    assert path.read_bytes() == before


async def test_why_a_value_does_not_open_is_told_by_its_own_key(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore.open(path, codec(provider("aesgcm")))
    await store.put(KEY, PLAIN)
    await store.close()
    same_name = codec(provider("aesgcm", "one", TWO), provider("identity"))
    with pytest.raises(Damaged, match="its key is another, or the value was changed"):
        SqliteStore.open(path, same_name)


async def test_a_row_copied_to_another_object_stops_the_start(tmp_path: Path) -> None:
    path, rules = tmp_path / "state.db", codec(provider("aesgcm"))
    store = SqliteStore.open(path, rules)
    await store.put(KEY, PLAIN)
    await store.put("/registry/secrets/mine/s", b"{}")
    await store.close()
    value, other = stored(path), "/registry/secrets/mine/s"
    database = sqlite3.connect(path)
    database.execute(
        "UPDATE log SET value = ?, crc = ? WHERE revision = 2",
        (value, journal.checksum(2, other, value)),
    )
    database.commit()
    database.close()
    with pytest.raises(Damaged, match="of another object"):
        SqliteStore.open(path, rules)


@pytest.mark.parametrize(
    ("pattern", "key", "sealed"),
    [
        ("*.*", "/registry/pods/default/p", True),
        ("*.*", "/registry/example.com/boats/b", True),
        ("*.", "/registry/secrets/default/s", True),
        ("*.", "/registry/deployments/default/d", False),
        ("*.apps", "/registry/deployments/default/d", True),
        ("deployments.apps", "/registry/deployments/default/d", True),
        ("boats.example.com", "/registry/example.com/boats/b", True),
        ("*.example.com", "/registry/example.com/boats/b", True),
        ("boats.example.com", "/registry/example.com/ships/b", False),
        ("events", "/registry/events/default/e", True),
        ("secrets", "/registry/configmaps/default/c", False),
    ],
)
def test_resources_are_found_by_their_keys(pattern: str, key: str, sealed: bool) -> None:
    rules = codec(provider("aesgcm"), resources=(pattern,))
    assert rules.seal(key, b"{}").startswith(b"k8s:enc:") == sealed


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (config(), "at least one"),
        (config(provider("identity"), resources=("*",)), "use '\\*.'"),
        (config(provider("identity"), resources=("*.", "secrets")), "masked by earlier rule"),
        (config(provider("identity"), resources=("Secrets",)), "capital"),
        (config({"secretbox": {"keys": []}}), "at least one"),
        (config(provider("secretbox", secret=TWO)), r"got 16, expected one of \[32\]"),
        (config(kms(apiVersion="v1")), "KMSv1 is deprecated"),
        (config(kms(apiVersion="v3")), "only v1 and v2 are supported"),
        (config(kms(name="a:b")), "must not contain ':'"),
        (config(kms(), kms()), "names must be unique"),
        (config(kms(endpoint="tcp://h:1")), "only unix is supported"),
        (config(kms(endpoint="")), "endpoint is a mandatory field"),
        (config(kms(cachesize=5)), "cachesize is not supported in v2"),
        (config(kms(timeout="-1s")), "must be > 0s"),
        (config(kms(timeout="soon")), "not a duration"),
        (config({**provider("aesgcm"), "identity": {}}), "different list elements"),
        (config(provider("aesgcm", secret=b"short")), r"got 5, expected one of \[16 24 32\]"),
        ({"kind": "EncryptionConfiguration"}, "apiVersion"),
    ],
)
def test_a_file_that_is_no_good_is_refused(raw: Any, why: str) -> None:
    with pytest.raises(BadDocument, match=why):
        build(raw)


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "encryption.yaml"
    assert read(path) is None
    path.write_text(yaml.safe_dump(config(provider("aesgcm"))))
    path.chmod(0o640)
    with pytest.raises(BadDocument, match="chmod 600"):
        read(path)
    path.chmod(0o600)
    assert read(path) is not None
