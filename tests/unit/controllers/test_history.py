"""Revisions: their hashes are upstream's, so that what moves here from there is not rolled out."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.controllers.runtime.history import (
    data_hash,
    in_order,
    new_revision,
    newest_equal,
    next_number,
    same_data,
    surplus,
    template_data,
    template_of,
)

TEMPLATE: Object = {
    "spec": {
        "terminationGracePeriodSeconds": 30,
        "containers": [
            {
                "name": "test",
                "image": "test",
                "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
    },
    "metadata": {"labels": {"app": "foo"}, "annotations": {"test": "value"}},
}


def revision(number: int, image: str = "", created: str = "", name: str = "") -> Object:
    return {
        "metadata": {"name": name or f"r{number}", "creationTimestamp": created},
        "data": {"spec": {"template": {"image": image or str(number)}}},
        "revision": number,
    }


def test_the_hash_is_the_one_upstream_gives() -> None:
    # What Kubernetes 1.34 and 1.33 (which wrote a null time) named the revision of this template.
    data = template_data(TEMPLATE)
    assert data_hash(data, 0) == "776999688b"
    data["spec"]["template"]["metadata"]["creationTimestamp"] = None
    assert data_hash(data, 0) == "c77f6d978"
    assert same_data(data, template_data(TEMPLATE))


def test_a_collision_gives_another_hash() -> None:
    data = template_data(TEMPLATE)
    assert len({data_hash(data, count) for count in range(5)}) == 5


def test_go_escapes_what_the_hash_is_of() -> None:
    # FNV-1 of {"a":"\u003c"} and "0".
    digest = 2166136261
    for byte in b'{"a":"\\u003c"}0':
        digest = (digest * 16777619 & 0xFFFFFFFF) ^ byte
    letters = "bcdfghjklmnpqrstvwxz2456789"
    assert data_hash({"a": "<"}, 0) == "".join(letters[ord(item) % 27] for item in str(digest))


def test_the_data_puts_the_template_back() -> None:
    data = template_data(TEMPLATE)
    assert data["spec"]["template"]["$patch"] == "replace"
    container = {**TEMPLATE["spec"]["containers"][0], "resources": {}}
    assert template_of({"data": data}) == {
        **TEMPLATE,
        "spec": {**TEMPLATE["spec"], "containers": [container]},
    }


@pytest.mark.parametrize(
    ("left", "right", "want"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1, "b": None, "c": {}, "d": []}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"volumes": [{"name": "v", "emptyDir": {}}]}, {"volumes": [{"name": "v"}]}, False),
        ({"replicas": 0}, {}, False),
        ({"value": ""}, {}, False),
    ],
)
def test_absent_and_empty_are_the_same(left: Any, right: Any, want: bool) -> None:
    assert same_data({"data": left}, {"data": right}) is want


def test_order_and_numbers() -> None:
    early, late = revision(2, created="2024-01-01", name="x"), revision(2, created="2024-01-02")
    assert in_order([late, revision(1), early]) == [revision(1), early, late]
    assert (next_number([late, revision(1)]), next_number([])) == (3, 1)
    same = [revision(1, "a"), revision(3, "a"), revision(2, "b")]
    assert newest_equal(same, revision(9, "a")["data"]) == same[1]
    assert newest_equal(same, revision(9, "c")["data"]) is None


@pytest.mark.parametrize(
    ("limit", "live_counts", "want"),
    [
        (2, False, ["r2"]),
        (2, True, ["r2", "r3"]),
        (0, False, ["r2", "r3", "r4"]),
        (-1, False, []),
        (9, True, []),
    ],
)
def test_the_oldest_go_but_never_the_live(limit: int, live_counts: bool, want: list[str]) -> None:
    found = surplus([revision(n) for n in (4, 1, 3, 2)], ["r1"], limit, live_counts=live_counts)
    assert [item["metadata"]["name"] for item in found] == want


def test_names_fit_and_annotations_are_kept() -> None:
    owner = {
        "metadata": {
            "name": "n" * 250,
            "namespace": "ns",
            "uid": "u",
            "annotations": {"kubernetes.io/change-cause": "why"},
        }
    }
    sets = resource("statefulsets", "apps")
    body = new_revision(sets, owner, template_data(TEMPLATE), {"app": "foo"}, 0)
    assert body["metadata"]["name"] == "n" * 223 + "-776999688b"
    assert body["metadata"]["labels"] == {
        "app": "foo",
        "controller.kubernetes.io/hash": "776999688b",
    }
    assert body["metadata"]["annotations"] == {"kubernetes.io/change-cause": "why"}
