"""The user's kubeconfig is other people's property: what is theirs survives, whatever we do."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from sampan.client.kubeconfig import (
    Access,
    KubeconfigError,
    build,
    merge,
    read,
    refresh,
    remove,
    write,
)

PEM = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
ACCESS = Access("https://127.0.0.1:6443", ca=PEM, cert=PEM, key=PEM)
THEIRS = """
apiVersion: v1
kind: Config
current-context: work
extensions: [{name: x, extension: {deep: 1}}]
clusters: [{name: work, cluster: {server: "https://work", tls-server-name: w}}]
contexts: [{name: work, context: {cluster: work, user: me, namespace: prod}}]
users: [{name: me, user: {exec: {command: gettoken, args: [a]}}}]
"""


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "admin.kubeconfig"
    write(path, build("sampan", ACCESS))
    assert read(path) == ACCESS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = Access("http://x", token="abc", insecure=True)
    write(path, build("sampan", token))
    assert read(path, "sampan") == token
    assert [item.name for item in path.parent.iterdir()] == ["admin.kubeconfig"]


def test_merging_and_removing_leaves_others_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(THEIRS)
    before = yaml.safe_load(THEIRS)
    merge(path, "sampan", ACCESS)
    merge(path, "sampan", ACCESS)
    merged = yaml.safe_load(path.read_text())
    assert merged["current-context"] == "sampan"
    assert [item["name"] for item in merged["clusters"]] == ["work", "sampan"]
    assert read(path) == ACCESS
    assert remove(path, "sampan")
    assert yaml.safe_load(path.read_text()) == {**before, "current-context": ""}
    text = path.read_text()
    assert not remove(path, "sampan")
    assert path.read_text() == text


def test_files_and_tokens_are_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    (tmp_path / "token").write_text("secret\n")
    config = build("x", Access("https://x"))
    config["clusters"][0]["cluster"]["certificate-authority"] = "ca.pem"
    config["users"][0]["user"]["tokenFile"] = "token"
    write(tmp_path / "config", config)
    assert read(tmp_path / "config") == Access("https://x", ca=PEM, token="secret")


def test_a_link_stays_a_link_and_a_lock_is_respected(tmp_path: Path) -> None:
    real = tmp_path / "real"
    link = tmp_path / "config"
    link.symlink_to(real)
    merge(link, "sampan", ACCESS)
    assert link.is_symlink()
    assert read(real) == ACCESS
    (tmp_path / "real.lock").touch()
    with pytest.raises(KubeconfigError, match="locked by another program"):
        merge(link, "other", ACCESS)
    assert (tmp_path / "real.lock").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not YAML"),
        ("[1]", "not a kubeconfig"),
        ("clusters: 3", "clusters is not a list"),
        ("{}", "no current-context is set"),
        ("current-context: a", "context 'a' does not exist"),
        ("{current-context: a, contexts: [{name: a, context: {cluster: c}}]}", "cluster 'c'"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match=message):
        read(path)


def test_renewed_credentials_reach_the_users_file_and_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "config"
    merge(path, "sampan", ACCESS)
    merge(path, "other", ACCESS)
    before = path.read_bytes()
    assert not refresh(path, "sampan", ACCESS)
    assert not refresh(path, "unknown", replace(ACCESS, token="new"))
    assert path.read_bytes() == before

    assert refresh(path, "sampan", replace(ACCESS, token="new"))
    assert read(path, "sampan").token == "new"
    assert read(path) == ACCESS  # the current context is still the other one
