"""`sampan image build`: what is said before buildah is asked, and what buildah is told."""

from __future__ import annotations

import base64
import json
import warnings
from pathlib import Path

import pytest

from sampan.paths import ClusterPaths

with warnings.catch_warnings():
    # typer is of before click's newest.
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer

    from sampan.cli import build


@pytest.fixture
def paths(tmp_path: Path) -> ClusterPaths:
    found = ClusterPaths("t", tmp_path / "data", tmp_path / "run")
    found.data.mkdir()
    found.config.write_text(json.dumps({"slot": 2}))
    found.token.write_text("secret\n")
    return found


@pytest.mark.parametrize(
    ("programs", "tag", "said"),
    [
        ("/nowhere", "app:1", "apt-get install buildah"),
        ("", "", "image build -t NAME"),
        ("", "Bad/Name", "must be lowercase"),
        ("", f"a@sha256:{'0' * 64}", "cannot be named by a digest"),
    ],
)
def test_what_cannot_be_built(
    paths: ClusterPaths,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    programs: str,
    tag: str,
    said: str,
) -> None:
    if programs:
        monkeypatch.setenv("PATH", programs)
    with pytest.raises(typer.Exit):
        build.build_image(paths, (".", tag, ""), ())
    assert said in capsys.readouterr().err


def test_the_clusters_registry_is_added_to_what_the_user_has(
    paths: ClusterPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "registries.conf"
    mine.write_text('unqualified-search-registries = ["mine.io"]')
    logins = tmp_path / "auth.json"
    logins.write_text(json.dumps({"auths": {"mine.io": {"auth": "eA=="}}}))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(mine))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(logins))
    told = build._registries(paths, paths.data)
    text = Path(told["CONTAINERS_REGISTRIES_CONF"]).read_text()
    assert "mine.io" in text
    assert 'location = "localhost:5002"\ninsecure = true' in text
    known = json.loads(Path(told["REGISTRY_AUTH_FILE"]).read_text())["auths"]
    assert known["mine.io"] == {"auth": "eA=="}
    assert base64.b64decode(known["localhost:5002"]["auth"]) == b"admin:secret"
    assert Path(told["REGISTRY_AUTH_FILE"]).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("facts", "host"),
    [
        ({"slot": 0}, "localhost:5000"),
        ({"slot": 3, "registry_port": 7000}, "localhost:7000"),
        ({"slot": 3, "registry_port": -1}, ""),
        ({"slot": 3, "runtime": "containerd"}, ""),
    ],
)
def test_where_the_registry_is(paths: ClusterPaths, facts: dict[str, object], host: str) -> None:
    paths.config.write_text(json.dumps(facts))
    assert build.registry_host(paths) == host
