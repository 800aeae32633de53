"""Row 10: what comes from outside is parsed or refused: no crash, no escape, no long thought.

Valid inputs are spoiled at random, by seed: bytes changed, cut out, doubled, joined with others. A
parser may give a value or raise what it says it raises; a layer may write below its folder alone.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import struct
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from sampan.dns import message
from sampan.node.envfile import value_of
from sampan.node.logs import Formatter, LogOptions
from sampan.runtime.interface import ImageDamaged
from sampan.runtime.layers import unpack
from sampan.runtime.manifest import parse_config, parse_document, parse_manifest
from sampan.wire import protobuf, spdy, yaml
from tests.kit.trust import SLICE, size

INPUTS = size(250)
LONGEST_S = 2.0
"""Of processor time for one input; most take microseconds."""


def spoiled(dice: random.Random, seeds: list[bytes]) -> bytes:
    """One of the inputs, with up to eight changes."""
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.randrange(1, 9)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0 if data:
                data[at % len(data)] = dice.randrange(256)
            case 1:
                data[at:at] = dice.randbytes(dice.randrange(1, 9))
            case 2:
                del data[at : at + dice.randrange(1, 32)]
            case 3:
                data[at:at] = data[at : at + dice.randrange(1, 64)] * dice.randrange(1, 9)
            case 4:
                data[at:] = dice.choice(seeds)[at:]
            case _:
                data[at : at + 4] = dice.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
    return bytes(data)


def fuzz(seeds: list[bytes], parse: Callable[[bytes], object], *fine: type[BaseException]) -> int:
    """How many were taken; whatever else is raised fails the test, with its input."""
    dice, taken = random.Random(SLICE), 0
    for seed in seeds:
        parse(seed)
    for _ in range(INPUTS):
        data = spoiled(dice, seeds)
        began = time.process_time()
        try:
            parse(data)
            taken += 1
        except fine:
            pass
        except Exception as error:
            raise AssertionError(f"{data!r}") from error
        assert time.process_time() - began < LONGEST_S, data
    return taken


def test_dns() -> None:
    name = b"\x03web\x07default\x03svc\x07cluster\x05local\0"
    question = struct.pack(">6H", 7, 0x100, 1, 0, 0, 1) + name + struct.pack(">2H", 1, 1)
    edns = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)
    answer = struct.pack(">6H", 7, 0x8180, 1, 2, 0, 0) + name + struct.pack(">2H", 1, 1)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 30, 4) + b"\x0a\0\0\x01"
    fuzz([question + edns], message.parse_query, message.Malformed)
    fuzz(
        [answer + record * 2],
        lambda data: message.addresses_in(data, (1, 28)),
        message.Malformed, ValueError, IndexError, struct.error,
    )  # fmt: skip


def test_spdy() -> None:
    encoder = spdy.Encoder()
    opened = encoder.encode(spdy.SynStream(1, (("streamtype", "data"), ("port", "80")), False))
    frames = opened + encoder.encode(spdy.Data(1, b"hello", True)) + encoder.encode(spdy.Ping(1))
    fuzz([frames], lambda data: spdy.Decoder().feed(data), spdy.SpdyError)


YAML = b"""
apiVersion: v1
kind: Pod
metadata: {name: "p", labels: &l {a: b, <<: {c: d}}}
spec:
  containers:
  - name: c
    command: [sh, -c, 'x']
    env: [{name: A, value: |
      text
    }]
  other: *l
"""


def test_yaml() -> None:
    plain = b"a: [1, 2.5, 0x10, true, null, 2026-01-01]\nb: |\n  text\nc: {d: *x}\n"
    usual = b"kind: Pod\nmetadata: &m {name: p}\nspec: {a: *m, b: [x, 'y', \"z\"]}\n"
    fuzz([usual], yaml.loads, yaml.YAMLError)
    dice = random.Random(SLICE)
    for _ in range(INPUTS):
        try:
            yaml.loads(spoiled(dice, [plain, usual, YAML]))
        except yaml.YAMLError:
            continue


def test_protobuf() -> None:
    body = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x06\x0a\x04\x0a\x02p1"
    fuzz([body], protobuf.unwrap, protobuf.ProtobufError)
    fuzz([body[4:]], lambda data: list(protobuf.fields(data)), protobuf.ProtobufError)


def test_manifests() -> None:
    blob = {"digest": "sha256:" + "a" * 64, "size": 7,
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}  # fmt: skip
    manifest = {"schemaVersion": 2, "config": {**blob, "mediaType":
                "application/vnd.oci.image.config.v1+json"}, "layers": [blob, blob],
                "mediaType": "application/vnd.oci.image.manifest.v1+json"}  # fmt: skip
    config = {"architecture": "amd64", "os": "linux",
              "config": {"Env": ["A=b"], "Cmd": ["sh"], "User": "1"},
              "rootfs": {"type": "layers", "diff_ids": [blob["digest"]]}}  # fmt: skip
    read = [orjson.dumps(manifest)]
    fuzz(read, lambda data: parse_manifest(parse_document(data)), ImageDamaged)
    fuzz([orjson.dumps(config)], parse_config, ImageDamaged)


def test_what_containers_write() -> None:
    log = b"2026-01-01T00:00:01.000000000+00:00 stdout P one\n2026-01-01T00:00:02Z stderr F two\n"
    options = LogOptions(since_s=1.0, timestamps=True, limit_bytes=50)
    fuzz([log], lambda data: Formatter(options).feed(data))
    text = "A='b'\nB='c d'\n# note\nC='e\nf'\n"
    fuzz([text.encode()], lambda data: value_of(data.decode("latin-1"), "C"), ValueError)


def archive(*entries: tuple[str, bytes, str]) -> bytes:
    """(name, type, link or content) of each."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name, kind, value in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            data = value.encode() if kind == tarfile.REGTYPE else b""
            info.size, info.linkname = len(data), "" if data else value
            info.pax_headers = {"path": name} if len(name) % 2 else {}
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.root
def test_layers_stay_where_they_are_unpacked(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("untouched")
    seeds = [
        archive(
            ("dir", tarfile.DIRTYPE, ""), ("dir/file", tarfile.REGTYPE, "text"),
            ("link", tarfile.SYMTYPE, "../outside"), ("link/file", tarfile.REGTYPE, "changed"),
            ("hard", tarfile.LNKTYPE, "dir/file"), ("dir/.wh.file", tarfile.REGTYPE, ""),
        ),
        archive(
            ("a", tarfile.SYMTYPE, str(outside)), ("a/b", tarfile.DIRTYPE, ""),
            ("../outside/file", tarfile.REGTYPE, "changed"), ("c", tarfile.FIFOTYPE, ""),
            ("h", tarfile.LNKTYPE, "../outside/file"), ("a/.wh..wh..opq", tarfile.REGTYPE, ""),
        ),
    ]  # fmt: skip
    dice, number = random.Random(SLICE), 0
    # Only what lies behind the first bytes is of interest; the digest is always the right one.
    for number in range(INPUTS):
        data = spoiled(dice, seeds) if number >= len(seeds) else seeds[number]
        target = tmp_path / f"layer{number}"
        target.mkdir()
        try:
            unpack(io.BytesIO(data), target, diff_id=f"sha256:{hashlib.sha256(data).hexdigest()}")
        except ImageDamaged:
            pass
        except Exception as error:
            raise AssertionError(f"{data!r}") from error
        assert os.listdir(outside) == ["file"], data
        assert (outside / "file").read_text() == "untouched", data
        assert (outside / "file").stat().st_nlink == 1, data
        shutil.rmtree(target)
