from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.checks import check_of
from sampan.api.errors import BadRequest
from sampan.api.schema import decode, definition_of, definitions

POD = definition_of("", "v1", "Pod")
DEPLOYMENT = definition_of("apps", "v1", "Deployment")
SECRET = definition_of("", "v1", "Secret")
LEASE = definition_of("coordination.k8s.io", "v1", "Lease")
CRD = definition_of("apiextensions.k8s.io", "v1", "CustomResourceDefinition")


def pod(**container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i", **container}]},
    }


def test_a_clean_object_is_returned_itself() -> None:
    obj = pod(resources={"limits": {"cpu": "500m", "memory": "1Gi"}}, ports=[{"containerPort": 1}])
    got = decode(POD, obj)
    assert got.obj is obj
    assert not got.problems


def test_nulls_and_unknown_fields_go_and_the_input_stays() -> None:
    obj = pod(resources={"limits": {"cpu": "0.5", "memory": 1024}}, tty=None, foo=1)
    obj["metadata"]["creationTimestamp"] = None
    obj["metadata"]["annotations"] = {"a": None}
    before = copy.deepcopy(obj)
    got = decode(POD, obj)
    assert obj == before
    assert got.problems == ['unknown field "spec.containers[0].foo"']
    assert got.obj["spec"]["containers"][0] == {
        "name": "c",
        "image": "i",
        "resources": {"limits": {"cpu": "500m", "memory": "1024"}},
    }
    assert got.obj["metadata"] == {"name": "p", "labels": {"app": "web"}, "annotations": {"a": ""}}


def test_zero_values_that_go_leaves_out_go() -> None:
    obj = pod(command=[], tty=False, env=[{"name": "a", "value": ""}], resources={})
    obj["spec"] |= {"hostNetwork": False, "nodeSelector": {}, "volumes": [], "priority": 0}
    obj["metadata"]["labels"] = {"empty": ""}
    obj["status"] = {"containerStatuses": [{"name": "c", "ready": False, "restartCount": 0}]}
    got = decode(POD, obj)
    assert not got.problems
    assert got.obj["spec"] == {
        "containers": [{"name": "c", "image": "i", "env": [{"name": "a"}], "resources": {}}],
        "priority": 0,  # A pointer: zero is a value.
    }
    assert got.obj["metadata"]["labels"] == {"empty": ""}
    assert got.obj["status"] == obj["status"]


def test_strict_decoding_names_every_problem_in_order() -> None:
    obj = {**pod(foo=1), "extra": {}}
    obj["spec"] = {"hostNetwork": True, **obj["spec"]}
    with pytest.raises(BadRequest) as caught:
        decode(POD, obj, strict=True, duplicates=["spec.hostNetwork"])
    assert caught.value.message == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: duplicate field '
        '"spec.hostNetwork", unknown field "spec.containers[0].foo", unknown field "extra"'
    )


DEPLOY = 'Deployment in version "v1" cannot be handled as a Deployment: '
TYPE_ERRORS: list[tuple[dict[str, Any], str]] = [
    (
        {"spec": {"replicas": "x"}},
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type "
        "int32",
    ),
    (
        {"spec": {"replicas": 1.5}},
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of "
        "type int32",
    ),
    (
        {"spec": {"replicas": 2**31}},
        "json: cannot unmarshal number 2147483648 into Go struct field "
        "DeploymentSpec.spec.replicas of type int32",
    ),
    (
        {"spec": {"template": {"spec": {"containers": {}}}}},
        "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers "
        "of type []v1.Container",
    ),
    (
        {"metadata": {"labels": {"a": 1}}},
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type "
        "string",
    ),
    (
        {"metadata": {"labels": [1]}},
        "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type "
        "map[string]string",
    ),
    (
        {"spec": []},
        "json: cannot unmarshal array into Go struct field Deployment.spec of type "
        "v1.DeploymentSpec",
    ),
    (
        {"spec": {"strategy": {"rollingUpdate": {"maxSurge": True}}}},
        "json: cannot unmarshal bool into Go struct field "
        "RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
    ),
    (
        {"metadata": {"creationTimestamp": "today"}},
        'parsing time "today" as "2006-01-02T15:04:05Z07:00": cannot parse "today" as "2006"',
    ),
    (
        {"spec": {"template": {"spec": {"overhead": {"cpu": "much"}}}}},
        "quantities must match the regular expression "
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
]


@pytest.mark.parametrize(("fields", "message"), TYPE_ERRORS)
def test_type_errors_read_as_gos(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(DEPLOYMENT, {"apiVersion": "apps/v1", "kind": "Deployment", **fields})
    assert caught.value.message == DEPLOY + message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("QQ==", ""),
        ("QUJD\nREVG", ""),
        ("QQ=", "illegal base64 data at input byte 2"),
        ("a*bc", "illegal base64 data at input byte 1"),
    ],
)
def test_bytes_are_checked(value: str, message: str) -> None:
    obj = {"apiVersion": "v1", "kind": "Secret", "data": {"a": value}}
    if not message:
        assert decode(SECRET, obj).obj["data"]["a"] == value.replace("\n", "")
        return
    with pytest.raises(BadRequest, match=message):
        decode(SECRET, obj)


def test_times_become_utc() -> None:
    obj = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"creationTimestamp": "2026-01-02T03:04:05+02:00"},
        "spec": {"renewTime": "2026-01-02T03:04:05.123456-01:00"},
    }
    got = decode(LEASE, obj).obj
    assert got["metadata"]["creationTimestamp"] == "2026-01-02T01:04:05Z"
    assert got["spec"]["renewTime"] == "2026-01-02T04:04:05.123456Z"


def test_json_schemas_keep_free_values_and_lose_unknown_keywords() -> None:
    schema = {
        "type": "object",
        "default": {"a": None},
        "properties": {"x": {"items": {"type": "string", "bogus": 1}, "type": "array"}},
        "additionalProperties": False,
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    got = decode(CRD, {"spec": {"versions": [version]}})
    assert got.problems == [
        'unknown field "spec.versions[0].schema.openAPIV3Schema.properties.x.items.bogus"'
    ]
    kept = got.obj["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert kept["default"] == {"a": None}
    assert kept["additionalProperties"] is False


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**33) | st.floats(0, 2) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "containers", "name", "labels", "limits", "resources", "a"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(st.sampled_from([POD, DEPLOYMENT, SECRET, LEASE, CRD]), JSON)
def test_whatever_comes_decoding_is_clean_or_a_bad_request(definition: str, value: Any) -> None:
    before = copy.deepcopy(value)
    try:
        got = decode(definition, value)
    except BadRequest:
        assert not check_of(definition)(value)
    else:
        assert check_of(definition)(got.obj)
        assert decode(definition, got.obj).obj is got.obj
    assert value == before


def test_every_definition_compiles() -> None:
    for name, shape in definitions().items():
        check = check_of(name)
        if shape.get("type") == "object":
            assert check({})
            for field in shape.get("properties", ()):
                check({field: object()})
