"""Protobuf bodies decode to what the same object is in JSON."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api import protobuf
from sampan.wire.protobuf import MAGIC, ProtobufError

Part = tuple[int, Any]


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def encode(*parts: Part) -> bytes:
    """Numbers as varints, text and messages (lists of parts) by length."""
    out = b""
    for number, value in parts:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value & 0xFFFFFFFFFFFFFFFF)
        else:
            data = encode(*value) if isinstance(value, list) else value
            data = data.encode() if isinstance(data, str) else data
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def body(api_version: str, kind: str, *parts: Part) -> bytes:
    return MAGIC + encode((1, [(1, api_version), (2, kind)]), (2, encode(*parts)))


def test_a_pod_with_inlined_structs_maps_and_special_types() -> None:
    probe = [(1, [(2, [(1, "/"), (2, [(1, 1), (2, 0), (3, "http")])])]), (2, 0), (4, 5)]
    resources = [(2, [(1, "cpu"), (2, [(1, "100m")])])]
    container = [(1, "c"), (2, "img"), (3, "sh"), (8, resources), (10, probe), (16, 0)]
    volume = [(1, "v"), (2, [(2, [(1, ""), (2, [(1, "1Gi")])])])]
    decoded = protobuf.decode(
        body(
            "v1",
            "Pod",
            (1, [(1, "p"), (2, ""), (3, "ns"), (8, []), (11, [(1, "a"), (2, "b")])]),
            (2, [(1, volume), (2, container), (4, 0), (11, 1)]),
            (3, []),
        )
    )
    assert decoded == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns", "labels": {"a": "b"}},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
            "containers": [
                {
                    "name": "c",
                    "image": "img",
                    "command": ["sh"],
                    "resources": {"requests": {"cpu": "100m"}},
                    "livenessProbe": {
                        "httpGet": {"path": "/", "port": "http"},
                        "periodSeconds": 5,
                    },
                }
            ],
            # A pointer's zero is a value; a plain field's zero is nothing.
            "terminationGracePeriodSeconds": 0,
            "hostNetwork": True,
        },
        "status": {},
    }


def test_bytes_times_and_negative_numbers() -> None:
    secret = protobuf.decode(body("v1", "Secret", (2, [(1, "k"), (2, b"\xff\x00")])))
    assert secret["data"] == {"k": "/wA="}
    lease = protobuf.decode(
        body("coordination.k8s.io/v1", "Lease", (2, [(2, -1), (4, [(1, 1), (2, 5000)])]))
    )
    assert lease["spec"] == {
        "leaseDurationSeconds": -1,
        "renewTime": "1970-01-01T00:00:01.000005Z",
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"json",
        body("v1", "Nothing"),
        body("v9", "Pod"),
        MAGIC + b"\x0a\xff\xff\xff\xff\x0f",
        body("v1", "Pod", (1, 7)),
        body("v1", "Pod", (2, [(4, "text")])),
    ],
)
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(ProtobufError):
        protobuf.decode(data)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_decoded_never_worse(data: bytes) -> None:
    try:
        protobuf.decode(body("v1", "Pod") + data)
        protobuf.decode(MAGIC + encode((1, [(1, "v1"), (2, "Pod")]), (2, data)))
    except ValueError:
        pass
