"""Layers unpacked for overlayfs: what they become, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.runtime import layers, room
from sampan.runtime.inflate import Inflated
from sampan.runtime.interface import ImageDamaged
from sampan.runtime.layers import unpack

pytestmark = pytest.mark.root

Member = tuple[str, str, str]
"""(kind, name, link or content)"""

KINDS = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "sym": tarfile.SYMTYPE,
    "link": tarfile.LNKTYPE,
    "char": tarfile.CHRTYPE,
    "fifo": tarfile.FIFOTYPE,
}


def tar(*members: Member, pax: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for kind, name, value in members:
            info = tarfile.TarInfo(name)
            info.type = KINDS[kind]
            info.mode = 0o755 if kind == "dir" else 0o640
            info.mtime = 1000
            info.pax_headers = pax or {}
            data = b""
            if kind == "file":
                data = value.encode()
                info.size = len(data)
            else:
                info.linkname = value
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def diff_id(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "layer"
    path.mkdir()
    return path


def unpack_tar(data: bytes, target: Path) -> None:
    unpack(io.BytesIO(data), target, diff_id=diff_id(data))


def test_files_links_and_modes(target: Path) -> None:
    unpack_tar(
        tar(
            ("dir", "./a", ""),
            ("file", "a/f", "hello"),
            ("link", "a/g", "a/f"),
            ("sym", "a/s", "/etc/passwd"),
            ("fifo", "a/p", ""),
            ("file", "deep/er/x", "y"),
        ),
        target,
    )
    assert (target / "a/f").read_text() == "hello"
    info = (target / "a/f").stat()
    assert stat.S_IMODE(info.st_mode) == 0o640
    assert info.st_mtime == 1000
    assert (target / "a").stat().st_mtime == 1000
    assert (target / "a/g").stat().st_ino == info.st_ino
    assert os.readlink(target / "a/s") == "/etc/passwd"
    assert stat.S_ISFIFO((target / "a/p").stat().st_mode)
    assert (target / "deep/er/x").read_text() == "y"


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_compressed(target: Path, compress: Callable[[bytes], bytes]) -> None:
    data = tar(("file", "f", "x" * 100_000))
    raw = compress(data)
    size = unpack(io.BytesIO(raw), target, diff_id=diff_id(data), digest=diff_id(raw))
    assert size == len(raw)
    assert (target / "f").stat().st_size == 100_000


def test_whiteouts_become_overlayfs_own(target: Path) -> None:
    unpack_tar(
        tar(
            ("dir", "d", ""),
            ("file", "d/.wh..wh..opq", ""),
            ("file", "d/.wh.gone", ""),
            ("file", ".wh..wh.plnk", ""),
        ),
        target,
    )
    info = (target / "d/gone").lstat()
    assert stat.S_ISCHR(info.st_mode)
    assert info.st_rdev == 0
    assert os.getxattr(target / "d", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(target)) == ["d"]


def test_whiteout_hides_only_lower_layers(target: Path) -> None:
    """The image specification: never what the same layer adds, before or after."""
    unpack_tar(
        tar(
            ("file", "kept", "1"),
            ("file", ".wh.kept", ""),
            ("file", ".wh.dir", ""),
            ("dir", "dir", ""),
            ("file", "dir/new", "2"),
        ),
        target,
    )
    assert (target / "kept").read_text() == "1"
    assert (target / "dir/new").read_text() == "2"
    assert os.getxattr(target / "dir", "trusted.overlay.opaque") == b"y"


def test_devices_are_left_out(target: Path) -> None:
    unpack_tar(tar(("char", "null", ""), ("file", "f", "")), target)
    assert os.listdir(target) == ["f"]


def test_later_entries_replace_earlier_ones(target: Path) -> None:
    unpack_tar(
        tar(
            ("dir", "d", ""),
            ("file", "d/f", ""),
            ("file", "d", "now a file"),
            ("sym", "l", "d"),
            ("file", "l", "now a file"),
        ),
        target,
    )
    assert (target / "d").read_text() == "now a file"
    assert not (target / "l").is_symlink()


def test_only_harmless_xattrs(target: Path) -> None:
    pax = {
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "x",
        "SCHILY.xattr.user.mine": "v",
    }
    unpack_tar(tar(("dir", "d", ""), pax=pax), target)
    assert os.listxattr(target / "d") == ["user.mine"]


EVIL = {
    "dot dot": [("file", "../outside", "x")],
    "dot dot inside": [("file", "a/../../outside", "x")],
    "absolute": [("file", "/outside", "x")],
    "below a link": [("sym", "l", ".."), ("file", "l/outside", "x")],
    "below an absolute link": [("sym", "l", "/tmp"), ("file", "l/outside", "x")],
    "below a link to itself": [("sym", "l", "l"), ("file", "l/x", "x")],
    "whiteout below a link": [("sym", "l", ".."), ("file", "l/.wh.keep", "")],
    "opaque below a link": [("sym", "l", ".."), ("file", "l/.wh..wh..opq", "")],
    "hard link out": [("link", "l", "../keep")],
    "absolute hard link": [("link", "l", "/etc/passwd")],
    "hard link through a link": [("sym", "s", ".."), ("link", "l", "s/keep")],
    "hard link to nothing": [("link", "l", "nothing")],
    "whiteout of dot dot": [("file", ".wh...", "")],
    "whiteout of nothing": [("file", ".wh.", "")],
    "root as a file": [("sym", ".", "/tmp")],
    "below a file": [("file", "f", ""), ("file", "f/x", "x")],
}


@pytest.mark.parametrize("name", EVIL)
def test_escapes_are_refused(target: Path, name: str) -> None:
    keep = target.parent / "keep"
    keep.write_text("untouched")
    before = sorted(os.listdir(target.parent))
    with pytest.raises(ImageDamaged):
        unpack_tar(tar(*EVIL[name]), target)
    assert sorted(os.listdir(target.parent)) == before
    assert keep.read_text() == "untouched"
    assert keep.stat().st_nlink == 1


def test_what_is_too_deep_is_refused(target: Path) -> None:
    unpack_tar(tar(("file", "a/" * 199 + "x", "y")), target)
    with pytest.raises(ImageDamaged, match="directories deep"):
        unpack_tar(tar(("file", "a/" * 1500 + "x", "y")), target)


def test_wrong_content_is_refused(target: Path) -> None:
    data = tar(("file", "f", "x"))
    with pytest.raises(ImageDamaged, match="expected"):
        unpack(io.BytesIO(data), target, diff_id=diff_id(b""))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a tar at all, but long enough to be looked at" * 40,
        tar(("file", "f", "x" * 5000))[:3000],
        gzip.compress(tar(("file", "f", "x" * 5000)))[:-20],
        gzip.compress(b"garbage"),
        zstandard.compress(tar(("file", "f", "x" * 5000)))[:-5],
        b"\x1f\x8b garbage",
    ],
    ids=("empty", "text", "cut", "gzip cut", "gzip", "zstd cut", "header alone"),
)
def test_damaged_archives(target: Path, data: bytes) -> None:
    with pytest.raises(ImageDamaged):
        unpack(io.BytesIO(data), target, diff_id="sha256:" + "0" * 64)


def test_bombs_are_stopped(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tar(*(("file", f"f{number}", "") for number in range(20)))
    monkeypatch.setattr(layers, "LAYER_ENTRIES_MAX", 10)
    with pytest.raises(ImageDamaged, match="more than 10"):
        unpack_tar(data, target)
    bomb = gzip.compress(b"\0" * 10_000_000)
    monkeypatch.setattr(layers, "LAYER_BYTES_MAX", 1_000_000)
    with pytest.raises(ImageDamaged, match="larger than allowed"):
        unpack(io.BytesIO(bomb), target, diff_id="")


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_bomb_takes_no_memory(target: Path, compress: Callable[[bytes], bytes]) -> None:
    """Of a few bytes that stand for much, whether they are data or an entry's headers."""
    zeros = bytes(96 << 20)
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(zeros)
    content = tarfile.TarInfo("zeros")
    content.size = len(zeros)
    for info, text in ((header, "bytes of headers"), (content, "diff id")):
        raw = compress(tar(("file", "f", "x"))[:1024] + info.tobuf() + zeros + bytes(1024))
        tracemalloc.start()
        with pytest.raises(ImageDamaged, match=text):
            unpack(io.BytesIO(raw), target, diff_id="")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20


def test_members_and_frames_follow_each_other() -> None:
    data = os.urandom(300_000) + bytes(3_000_000) + b"end"
    halves = data[:1_000_000], data[1_000_000:]
    for compress, padding in ((gzip.compress, bytes(512)), (zstandard.compress, b"")):
        stream = Inflated(io.BytesIO(b"".join(map(compress, halves)) + padding), 1 << 30)
        found = bytearray()
        while piece := stream.read(100_000):
            found += piece
        assert found == data
        assert stream.digest == diff_id(data)


def test_no_layer_takes_the_last_of_the_disk(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FREE_SHARE_MIN", 2)
    with pytest.raises(OSError, match="too little of the node's disk"):
        unpack_tar(tar(("file", "f", "x")), target)


NAMES = st.sampled_from(
    ["a", "a/b", "a/b/c", "b", "..", "../x", "/x", "a/../..", ".", "l", "l/x", ".wh.a", "a/.wh.b"]
)
MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(["file", "dir", "sym", "link", "fifo"]),
        NAMES,
        st.sampled_from(["", "a", "..", "../x", "/etc", "l", "a/b", "/"]),
    ),
    max_size=8,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(members=MEMBERS)
def test_no_archive_reaches_outside(tmp_path: Path, members: list[Member]) -> None:
    """Whatever the order of entries and links: refused or inside, never out, never a crash."""
    house = tmp_path / hashlib.sha256(repr(members).encode()).hexdigest()[:16]
    target = house / "layer"
    if house.exists():
        return
    target.mkdir(parents=True)
    (house / "x").write_text("untouched")
    mode = house.stat().st_mode
    try:
        unpack_tar(tar(*members), target)
    except ImageDamaged:
        pass
    assert sorted(os.listdir(house)) == ["layer", "x"]
    assert (house / "x").read_text() == "untouched"
    assert (house / "x").stat().st_nlink == 1
    assert house.stat().st_mode == mode
    assert not os.listxattr(house)
