"""Whom a machine that joins believes: the CA with the hash it was told, and nobody else."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from sampan.client.authority import ca_hash
from sampan.daemon import discovery, pki
from sampan.daemon.child import Refused
from sampan.daemon.config import ClusterConfig

CONFIG = ClusterConfig(
    "test", 0, "node", "10.244.0.0/16", "10.96.0.0/12", "127.0.0.1", 6443, "test"
)
SERVER = "https://192.0.2.1:6443"


@pytest.fixture
def ca(tmp_path: Path) -> bytes:
    pki.ensure(tmp_path / "pki", CONFIG)
    return (tmp_path / "pki/ca.crt").read_bytes()


def test_the_hash_is_kubeadms(ca: bytes, tmp_path: Path) -> None:
    """As its documentation computes it, with openssl."""
    key = subprocess.run(
        ["openssl", "x509", "-pubkey", "-noout"], input=ca, capture_output=True, check=True
    ).stdout
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "der"],
        input=key,
        capture_output=True,
        check=True,
    ).stdout
    assert ca_hash(ca) == f"sha256:{hashlib.sha256(der).hexdigest()}"


def test_a_ca_with_another_hash_is_refused_before_anything_is_sent(
    ca: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "read_info", lambda server: ca.decode())
    assert discovery.discover(SERVER, ca_hash(ca)) == ca.decode()
    with pytest.raises(Refused, match="another cluster, or somebody stands between"):
        discovery.discover(SERVER, "sha256:" + "0" * 64)


@pytest.mark.parametrize("wanted", ["", "sha256:", "md5:" + "0" * 64, "0" * 64])
def test_a_hash_that_is_none_is_refused_before_the_server_is_asked(wanted: str) -> None:
    with pytest.raises(Refused, match="use sha256: and 64 hexadecimal digits"):
        discovery.discover(SERVER, wanted)


def test_what_the_server_says_need_not_make_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    class Says:
        def __init__(self, body: object) -> None:
            self.body = json.dumps(body).encode()

        def __enter__(self) -> Says:
            return self

        def __exit__(self, *_: object) -> None:
            return

        def read(self, _: int) -> bytes:
            return self.body

    bad = {
        "clusters": [{"cluster": {"certificate-authority-data": base64.b64encode(b"x").decode()}}]
    }
    for body in ({}, [], {"data": None}, {"data": {"kubeconfig": "{"}}):
        monkeypatch.setattr(discovery.urllib.request, "urlopen", lambda *a, b=body, **k: Says(b))
        with pytest.raises(Refused, match="makes no sense"):
            discovery.read_info(SERVER)
    answer = Says({"data": {"kubeconfig": json.dumps(bad)}})
    monkeypatch.setattr(discovery.urllib.request, "urlopen", lambda *a, **k: answer)
    with pytest.raises(Refused, match="damaged"):
        discovery.discover(SERVER, "sha256:" + "0" * 64)
