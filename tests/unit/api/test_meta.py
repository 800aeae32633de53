from __future__ import annotations

from typing import Any

import pytest

from sampan.api import errors, fields, meta, names
from sampan.api.resources import resource
from sampan.api.times import TimeError, format_micro_time, format_time, parse_time

PODS, NODES, ROLES = (
    resource("pods"),
    resource("nodes"),
    resource("roles", "rbac.authorization.k8s.io"),
)


def causes(metadata: dict[str, Any], where: Any = PODS) -> list[str]:
    return [str(cause) for cause in meta.validate_meta({"metadata": metadata}, where)]


def test_good_metadata_has_no_causes() -> None:
    assert not causes(
        {
            "name": "a.b-c",
            "namespace": "default",
            "labels": {"app.kubernetes.io/name": "x", "e": ""},
            "annotations": {"Example.com/Any": "thing at all"},
            "finalizers": ["example.com/keep"],
        }
    )
    assert not causes({"name": "system:node"} | {"namespace": "x"}, ROLES)


def test_what_is_wrong_with_a_name() -> None:
    text = (
        'metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower '
        "case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric "
        "character (e.g. 'example.com', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    )
    assert causes({"name": "A_b", "namespace": "x"}) == [text]
    assert causes({"namespace": "x"}) == [
        "metadata.name: Required value: name or generateName is required"
    ]
    assert causes({"name": "a", "namespace": "x"}, NODES) == [
        "metadata.namespace: Forbidden: not allowed on this type"
    ]
    assert causes({"name": "a"}) == ["metadata.namespace: Required value"]
    assert causes({"name": "a/b", "namespace": "x"}, ROLES) == [
        "metadata.name: Invalid value: \"a/b\": may not contain '/'"
    ]
    assert "must be no more than 253 bytes" in causes({"name": "a" * 254, "namespace": "x"})[0]
    assert names.label_problems("a.b") == ["must not contain dots"]
    assert names.label_1035_problems("1a")


def test_labels_annotations_owners_finalizers() -> None:
    base = {"name": "a", "namespace": "x"}
    found = causes(
        {
            **base,
            "labels": {"a b": "x", "ok": "no good"},
            "annotations": {"big": "x" * (256 * 1024)},
            "finalizers": ["orphan", "foregroundDeletion"],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": True},
                {"apiVersion": "", "kind": "Pod", "name": "q", "uid": "", "controller": True},
            ],
        }
    )
    assert [line.split(":")[0] for line in found] == [
        "metadata.labels",
        "metadata.labels",
        "metadata.annotations",
        "metadata.ownerReferences.apiVersion",
        "metadata.ownerReferences.uid",
        "metadata.ownerReferences",
        "metadata.finalizers",
    ]
    assert found[2].endswith("Too long: may not be more than 262144 bytes")
    assert found[5].endswith(
        'Only one reference can have Controller set to true. Found "true" in references for '
        "Pod/p and Pod/q"
    )


def test_updates_keep_what_is_immutable() -> None:
    old = {"metadata": {"name": "a", "uid": "1", "generation": 2, "deletionTimestamp": "t"}}
    new = {"metadata": {"name": "b", "uid": "1", "generation": 1, "deletionTimestamp": "t",
                        "finalizers": ["x.io/y"]}}  # fmt: skip
    assert [str(cause) for cause in meta.validate_meta_update(new, old, PODS)] == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being "
        'deleted, found new finalizers []string{"x.io/y"}',
        "metadata.generation: Invalid value: 1: must not be decremented",
        'metadata.name: Invalid value: "b": field is immutable',
    ]


def test_the_beginning_of_a_generated_name() -> None:
    assert not names.name_problems("web-", "subdomain", prefix=True)


def test_owners_and_conditions() -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "o", "uid": "7"}}
    obj = {"metadata": {"name": "a", "ownerReferences": [meta.owner_reference(owner)]}}
    assert meta.controller_of(obj) == meta.owner_reference(owner)
    first = {"type": "Ready", "status": "False", "lastTransitionTime": "1"}
    same = meta.with_condition([first], {**first, "lastTransitionTime": "2"})
    assert same == [first]
    changed = meta.with_condition([first], {**first, "status": "True", "lastTransitionTime": "2"})
    assert changed[0]["lastTransitionTime"] == "2"
    assert meta.has_condition({"status": {"conditions": changed}}, "Ready")


def test_times() -> None:
    assert format_time(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert format_micro_time(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"
    assert parse_time("2023-11-14T22:13:20.25Z") == 1_700_000_000.25
    for text, message in (
        ("2023-13-14T22:13:20Z", "month out of range"),
        ("2023-02-30T22:13:20Z", "day out of range"),
        ("2023-02-03T22:13:20Zx", 'extra text: "x"'),
        ("2023-02-03 22:13:20Z", 'cannot parse " 22:13:20Z" as "T"'),
    ):
        with pytest.raises(TimeError, match=message):
            parse_time(text)


def test_finalizers_without_a_domain_are_upstreams_own() -> None:
    base = {"name": "a", "namespace": "x"}
    assert causes({**base, "finalizers": ["orphan", "a/b", "mine"]}) == [
        'metadata.finalizers[2]: Invalid value: "mine": name is neither a standard finalizer name '
        "nor is it fully qualified"
    ]
    loose = resource("customresourcedefinitions", "apiextensions.k8s.io")
    assert causes({"name": "a", "finalizers": ["mine"]}, loose) == []


def test_a_message_says_each_cause_once() -> None:
    twice = [fields.required("a"), fields.required("a"), fields.required("b")]
    error = errors.invalid("", "Pod", "x", twice)
    assert error.message == 'Pod "x" is invalid: [a: Required value, b: Required value]'
    assert len(error.status_object()["details"]["causes"]) == 3
    assert errors.invalid("", "Pod", "x", twice[:2]).message == (
        'Pod "x" is invalid: a: Required value'
    )
