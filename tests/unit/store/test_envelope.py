"""Seeds that a KMS plugin wraps: what is on disk is upstream's KMS v2, and a key is changed by its
keeper while the server runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from sampan.server import documents, encryption
from sampan.server.encryption import Configured, build
from sampan.server.kms import checks_of, look
from sampan.store.encryption import Unreadable
from sampan.store.envelope import SEALED
from sampan.store.interface import Damaged
from sampan.store.sqlite import SqliteStore
from sampan.wire.messages import decode
from tests.kit.kmsplugin import KmsPlugin, kms_plugin

from .test_encryption import KEY, PLAIN, config, kms, on_disk, provider, stored

PREFIX = b"k8s:enc:kms:v2:vault:"


def codec(plugin: KmsPlugin) -> Configured:
    made = build(config(kms(endpoint=plugin.endpoint, timeout="1s"), provider("aesgcm")))
    for item in made.plugins:
        item.begin(wait_s=0)
    return made


async def test_values_are_sealed_by_seeds_that_a_plugin_wraps(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with kms_plugin() as plugin:
        rules = codec(plugin)
        store = SqliteStore.open(path, rules)
        for name in ("", "2"):
            await store.put(KEY + name, PLAIN)
        assert plugin.calls == ["Status", "Encrypt"], "once for all values"
        assert PLAIN not in on_disk(path)
        record = store.get(KEY)
        assert record is not None
        assert not store.is_stale(record)
        # The keeper takes another key: what the former one wrapped is written anew.
        plugin.key_id = "k2"
        assert await look(rules.plugins[0], rules, store)
        assert store.is_stale(record)
        await store.close()
        _check_layout(stored(path))
        store = SqliteStore.open(path, rules)
        await store.put(KEY, PLAIN, expected=record.modified)
        await store.close()
        plugin.calls.clear()
        store = SqliteStore.open(path, codec(plugin))
        assert plugin.calls == ["Status", "Encrypt", "Decrypt", "Decrypt"], "once for each seed"
        for key, old in ((KEY, False), (f"{KEY}2", True)):
            found = store.get(key)
            assert found is not None
            assert (found.value, store.is_stale(found)) == (PLAIN, old)
        await store.close()


def _check_layout(raw: bytes) -> None:
    """As upstream reads it, with another library's HKDF."""
    assert raw.startswith(PREFIX)
    found = decode(SEALED, raw.removeprefix(PREFIX))
    assert (found["key_id"], found["kind"]) == ("k1", 1)
    seed = bytes(byte ^ 0x5A for byte in found["seed"].removeprefix(b"k1:"))
    info, nonce, sealed = found["data"][:32], found["data"][32:44], found["data"][44:]
    key = HKDFExpand(SHA256(), 32, info).derive(seed)
    assert AESGCM(key).decrypt(nonce, sealed, KEY.encode()) == PLAIN


async def test_a_plugin_that_is_away(tmp_path: Path) -> None:
    """Nothing starts without it; what runs goes on, and says so."""
    path, file = tmp_path / "state.db", tmp_path / "encryption.yaml"
    with kms_plugin() as plugin:
        rules = codec(plugin)
        store = SqliteStore.open(path, rules)
        plugin.healthz = "sealed"
        assert not await look(rules.plugins[0], rules, store)
        ((name, check),) = checks_of(rules)
        assert name == "kms-provider-0"
        assert "healthz 'sealed'" in check(None)
        await store.put(KEY, PLAIN)
        await store.close()
        raw: Any = config(kms(endpoint=plugin.endpoint))
    with pytest.raises(Unreadable, match="KMS plugin vault: Status: rpc error: code = Unavailable"):
        codec(plugin)
    file.write_text(yaml.safe_dump(raw))
    file.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sampan.server.kms.Plugin.begin.__defaults__", (0.0,))
        with pytest.raises(documents.BadDocument, match="Unavailable"):
            encryption.read(file)
    behind = build(config(provider("aesgcm"), kms(endpoint=plugin.endpoint)))
    assert behind.plugins == [], "what only reads is not waited for"
    with pytest.raises(Damaged, match="cannot be decrypted: KMS plugin vault: Decrypt"):
        SqliteStore.open(path, behind)


async def test_envelopes_that_are_damaged(tmp_path: Path) -> None:
    with kms_plugin() as plugin:
        rules = codec(plugin)
        sealed = rules.seal(KEY, PLAIN)
        assert rules.open(KEY, sealed) == (PLAIN, False)
        at = len(PREFIX) + 60
        odd = sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :]
        for key, data in ((KEY, odd), (f"{KEY}2", sealed), (KEY, sealed[:60]), (KEY, PREFIX)):
            with pytest.raises(Unreadable):
                rules.open(key, data)
