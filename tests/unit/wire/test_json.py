from __future__ import annotations

import json

import pytest

from sampan.wire import json as wire_json


def test_a_stored_object_takes_its_version_without_decoding() -> None:
    obj = {
        "metadata": {"resourceVersion": "7", "name": "a"},
        "data": {"x": '"metadata":{'},
        "apiVersion": "v1",
        "kind": "ConfigMap",
    }
    value = wire_json.encode_object(obj)
    assert value.startswith(b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}')
    assert obj["metadata"] == {"resourceVersion": "7", "name": "a"}
    sent = json.loads(wire_json.splice_version(value, 42))
    assert sent == {**obj, "metadata": {"name": "a", "resourceVersion": "42"}}


def test_empty_metadata_takes_a_version_too() -> None:
    value = wire_json.encode_object({"kind": "K", "apiVersion": "v1", "metadata": {}})
    assert wire_json.splice_version(value, 1) == (
        b'{"kind":"K","apiVersion":"v1","metadata":{"resourceVersion":"1"}}'
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "unexpected end of JSON input"),
        (b'{"a":', "unexpected end of JSON input"),
        (b'{"a', "unexpected end of JSON input"),
        (b"kind: Pod", "invalid character 'k' looking for beginning of value"),
        (b"{a:1}", "invalid character 'a' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"{} x", "invalid character 'x' after top-level value"),
        (b"[NaN]", "invalid character 'N' looking for beginning of value"),
        (b"[" * 250 + b"]" * 250, "exceeded max depth"),
        (b"[" * 5000 + b"]" * 5000, "exceeded max depth"),
    ],
)
def test_what_is_wrong_is_said_in_gos_words(body: bytes, message: str) -> None:
    with pytest.raises(wire_json.JSONError) as caught:
        wire_json.loads(body)
    assert str(caught.value) == message


def test_wrong_utf8_is_replaced() -> None:
    assert wire_json.loads(b'{"a":"\xff"}') == {"a": "\ufffd"}


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b'{"a":1,"b":{"c":1}}', []),
        (b'{"a" : 1, "b" :"\\":"}', []),
        (b'{"a":1,"a":2}', ["a"]),
        (b'{"s":{"c":[{},{"x":1,"x":1,"x":2}]},"m":{"k":1,"k":2}}', ["s.c[1].x", "m.k"]),
    ],
)
def test_duplicate_fields_are_found(body: bytes, paths: list[str]) -> None:
    assert wire_json.duplicates(body, wire_json.loads(body)) == paths
