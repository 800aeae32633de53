"""Users are looked up in the image, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.runtime.interface import ContainerSpec, RuntimeFailure, Security
from sampan.runtime.users import User, resolve_user, with_user

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/srv/app:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:app,other\nwheel:x:10:root\nbad:x:y:app\n"


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("app", User(1000, 1001, [50], "/srv/app")),
        ("1000", User(1000, 1001, [50], "/srv/app")),
        ("0", User(0, 0, [10], "/root")),
        ("4242", User(4242, 0)),
        ("app:staff", User(1000, 50, [50], "/srv/app")),
        ("1000:3000", User(1000, 3000, [50], "/srv/app")),
        ("4242:4343", User(4242, 4343)),
        (":staff", User(0, 50, [10], "/root")),
    ],
)
def test_resolved(rootfs: Path, text: str, user: User) -> None:
    assert resolve_user(rootfs, text) == user


@pytest.mark.parametrize("text", ["nobody", "app:nogroup", "-1", "99999999999", "app:99999999999"])
def test_unknown(rootfs: Path, text: str) -> None:
    with pytest.raises(RuntimeFailure):
        resolve_user(rootfs, text)


def test_a_user_nobody_can_be_is_in_nobodys_way(rootfs: Path) -> None:
    for name in ("passwd", "group"):
        odd = "nfsnobody:x:4294967294:4294967294::/:/bin/sh\nodd:x:7:x::/:/bin/sh\n"
        path = rootfs / "etc" / name
        path.write_text(odd + path.read_text())
    assert resolve_user(rootfs, "app") == User(1000, 1001, [50], "/srv/app")
    assert resolve_user(rootfs, "odd") == User(7, 0, [], "/")
    for text in ("nfsnobody", "4294967294"):
        with pytest.raises(RuntimeFailure):
            resolve_user(rootfs, text)


def test_message_is_upstreams(rootfs: Path) -> None:
    with pytest.raises(RuntimeFailure) as caught:
        resolve_user(rootfs, "nobody")
    expected = "unable to find user nobody: no matching entries in passwd file"
    assert str(caught.value) == expected


def test_passwd_that_links_out_is_read_inside(rootfs: Path, tmp_path_factory) -> None:
    """CVE-2024-5154: a link to the host's file finds only what the image has there."""
    outside = tmp_path_factory.mktemp("host") / "passwd"
    outside.write_text("evil:x:0:0::/:/bin/sh\n")
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to(outside)
    with pytest.raises(RuntimeFailure):
        resolve_user(rootfs, "evil")
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to("../../../../etc/group")
    with pytest.raises(RuntimeFailure):
        resolve_user(rootfs, "root2")


def test_fifo_as_passwd_does_not_block(rootfs: Path) -> None:
    import os

    (rootfs / "etc/passwd").unlink()
    os.mkfifo(rootfs / "etc/passwd")
    assert resolve_user(rootfs, "5") == User(5, 0)


def test_root_by_default_has_its_groups_too(rootfs: Path) -> None:
    """Unless the pod wants none of the image's (supplementalGroupsPolicy: Strict)."""
    for wanted, gids in ((True, [7, 10]), (False, [7])):
        security = Security(supplemental_gids=[7], image_groups=wanted)
        spec = ContainerSpec(id="x", image="", args=[], env=[], security=security)
        assert with_user(spec, rootfs).security.supplemental_gids == gids


def test_home_comes_from_the_entry(rootfs: Path) -> None:
    spec = ContainerSpec(id="x", image="", args=[], env=[], security=Security(user="app"))
    assert dict(with_user(spec, rootfs).env)["HOME"] == "/srv/app"
    spec = ContainerSpec(
        id="x", image="", args=[], env=[("HOME", "/h")], security=Security(uid=1000)
    )
    assert list(with_user(spec, rootfs).env) == [("HOME", "/h")]
