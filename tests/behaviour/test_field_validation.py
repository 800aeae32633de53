"""Field validation Ignore, Warn and Strict (KEP-2885), in upstream's words and order.

The cases are those of upstream's test/integration/apiserver/field_validation_test.go.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.kit.cluster import ADMIN, Answer, Cluster, api_cluster, request_of

from .test_ownership import DEPLOYMENTS, JSON, MAPS, MERGE, STRATEGIC, config, deployment

BODY = b"""{
  "apiVersion": "apps/v1",
  "kind": "Deployment",
  "metadata": {"name": "d"},
  "spec": {
    "unknown1": "val1",
    "unknownDupe": "valDupe",
    "unknownDupe": "valDupe2",
    "paused": true,
    "paused": false,
    "selector": {"matchLabels": {"app": "nginx"}},
    "template": {
      "metadata": {"labels": {"app": "nginx"}},
      "spec": {
        "containers": [
          {
            "name": "nginx",
            "image": "nginx:latest",
            "unknownNested": "val1",
            "imagePullPolicy": "Always",
            "imagePullPolicy": "Never"
          }
        ]
      }
    }
  }
}"""
PROBLEMS = [
    'unknown field "spec.unknown1"',
    'unknown field "spec.unknownDupe"',
    'duplicate field "spec.paused"',
    'unknown field "spec.template.spec.containers[0].unknownNested"',
    'duplicate field "spec.template.spec.containers[0].imagePullPolicy"',
]
YAML = b"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: d
spec:
  unknown1: val1
  unknownDupe: valDupe
  unknownDupe: valDupe2
  paused: true
  paused: false
  selector:
    matchLabels: {app: nginx}
  template:
    metadata:
      labels: {app: nginx}
    spec:
      containers:
      - name: nginx
        image: nginx:latest
        unknownNested: val1
        imagePullPolicy: Always
        imagePullPolicy: Never
"""
LINES = [
    'line 8: key "unknownDupe" already set in map',
    'line 10: key "paused" already set in map',
    'line 22: key "imagePullPolicy" already set in map',
]
UNKNOWN = [
    'unknown field "spec.template.spec.containers[0].unknownNested"',
    'unknown field "spec.unknown1"',
    'unknown field "spec.unknownDupe"',
]


async def send(
    cluster: Cluster, method: str, how: str, body: Any, media: str = "application/json"
) -> tuple[Answer, list[str]]:
    path = DEPLOYMENTS if method == "POST" else f"{DEPLOYMENTS}/d"
    request_path = f"{path}?fieldManager=me" + (f"&fieldValidation={how}" if how else "")
    answer = await cluster.server.handle(_request(method, request_path, body, media))
    warnings = [text for name, text in answer.headers if name == "Warning"]  # type: ignore[union-attr]
    texts = [re.sub(r"\\(.)", r"\1", text[len('299 - "') : -1]) for text in warnings]
    return Answer(answer.status, answer.body or b""), texts  # type: ignore[union-attr]


def _request(method: str, path: str, body: Any, media: str) -> Any:
    from tests.kit.cluster import ADMIN, request_of

    return request_of(method, path, body, ADMIN, media, "")


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_bodies_in_json(method: str) -> None:
    async with api_cluster() as cluster:
        if method == "PUT":
            await send(cluster, "POST", "Ignore", BODY)
        strict, warnings = await send(cluster, method, "Strict", BODY)
        assert (strict.status, warnings) == (400, [])
        assert strict.message == (
            'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: '
            + ", ".join(PROBLEMS)
        )
        ignored, warnings = await send(cluster, method, "Ignore", BODY + b"\n")
        assert warnings == []
        if method == "POST":
            assert ignored.status == 201, ignored.message
            await cluster.http("DELETE", f"{DEPLOYMENTS}/d")
        for how in ("Warn", ""):
            done, warnings = await send(cluster, method, how, BODY)
            assert warnings == PROBLEMS, done.message
            if method == "POST":
                await cluster.http("DELETE", f"{DEPLOYMENTS}/d")


async def test_bodies_in_yaml() -> None:
    async with api_cluster() as cluster:
        strict, _ = await send(cluster, "POST", "Strict", YAML, "application/yaml")
        assert strict.status == 400
        assert strict.message.endswith(
            "strict decoding error: yaml: unmarshal errors:\n  "
            + "\n  ".join(LINES)
            + ", "
            + ", ".join(UNKNOWN)
        )
        warned, warnings = await send(cluster, "POST", "Warn", YAML, "application/yaml")
        assert warned.status == 201
        assert warnings == [*LINES, *UNKNOWN]


@pytest.mark.parametrize("media", [MERGE, STRATEGIC])
async def test_patches(media: str) -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", DEPLOYMENTS, deployment())
        patch = b'{"spec": {"unknown1": 1, "paused": true, "paused": false, "replicas": 3}}'
        problems = ['duplicate field "spec.paused"', 'unknown field "spec.unknown1"']
        strict, _ = await send(cluster, "PATCH", "Strict", patch, media)
        assert strict.status == 422
        shown = (
            r"map\[spec:map\[paused:false replicas:3 unknown1:1\]\]" if media == STRATEGIC else ".*"
        )
        assert re.fullmatch(
            f' "" is invalid: patch: Invalid value: "{shown}": strict decoding error: '
            + ", ".join(problems),
            strict.message,
        ), strict.message
        warned, warnings = await send(cluster, "PATCH", "Warn", patch, media)
        assert (warned.status, warnings) == (200, problems)
        ignored, warnings = await send(cluster, "PATCH", "Ignore", patch, media)
        assert (ignored.status, warnings) == (200, [])
        assert "unknown1" not in ignored.json["spec"]
        assert ignored.json["spec"]["replicas"] == 3


async def test_json_patches() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", DEPLOYMENTS, deployment())
        patch = (
            b'[{"op": "add", "path": "/spec/unknown1", "value": "a", "foo": "bar"},'
            b'{"op": "add", "path": "/spec/x", "path": "/spec/paused", "value": true}]'
        )
        problems = [
            'json patch unknown field "[0].foo"',
            'json patch duplicate field "[1].path"',
            'unknown field "spec.unknown1"',
        ]
        strict, _ = await send(cluster, "PATCH", "Strict", patch, JSON)
        assert strict.status == 422
        assert strict.message.endswith("strict decoding error: " + ", ".join(problems))
        warned, warnings = await send(cluster, "PATCH", "Warn", patch, JSON)
        assert (warned.status, warnings) == (200, problems)


async def test_a_patch_of_a_wrong_type_is_refused_as_a_patch() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", DEPLOYMENTS, deployment())

        async def refused(spec: dict[str, Any], media: str) -> str:
            answer, _ = await send(cluster, "PATCH", "", {"spec": spec}, media)
            assert answer.status == 422
            return answer.message

        assert await refused({"replicas": "abc"}, STRATEGIC) == (
            ' "" is invalid: patch: Invalid value: "map[spec:map[replicas:abc]]": '
            "unrecognized type: int32"
        )
        assert (await refused({"template": "x"}, STRATEGIC)).endswith(
            '"map[spec:map[template:x]]": cannot restore struct from: string'
        )
        for given, why in (
            ({"selector": {"matchLabels": "x"}}, "cannot restore map from string"),
            ({"template": {"spec": {"containers": {}}}}, "cannot restore slice from map"),
            ({"template": []}, "cannot restore struct from: slice"),
            ({"template": {"spec": {"hostname": 5}}}, "cannot convert int64 to string"),
        ):
            assert (await refused(given, STRATEGIC)).endswith(f": {why}")
        assert (await refused({"replicas": "abc"}, MERGE)).endswith(
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of "
            "type int32"
        )


async def test_what_is_asked_for_must_be_known() -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http("POST", f"{MAPS}?fieldValidation=foo", config())
        assert answer.status == 422
        assert 'fieldValidation: Unsupported value: "foo": supported values:' in answer.message


async def test_warnings_come_with_refusals_too() -> None:
    async with api_cluster() as cluster:
        await send(cluster, "POST", "Ignore", BODY)
        again, warnings = await send(cluster, "POST", "Warn", BODY)
        assert (again.status, warnings) == (409, PROBLEMS)


async def test_a_scale_is_checked_too() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", DEPLOYMENTS, deployment())
        scale = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": "d"},
            "spec": {"replicas": 2, "foo": 1},
        }
        path = f"{DEPLOYMENTS}/d/scale?fieldValidation="
        refused = await cluster.http("PUT", f"{path}Strict", scale)
        assert (refused.status, refused.message) == (
            400,
            'Scale in version "v1" cannot be handled as a Scale: strict decoding error: '
            'unknown field "spec.foo"',
        )
        assert (await cluster.http("PUT", f"{path}Ignore", scale)).json["spec"] == {"replicas": 2}
        patch = {"spec": {"replicas": 3, "foo": 1}}
        refused = await cluster.http("PATCH", f"{path}Strict", patch, content_type=MERGE)
        assert refused.status == 422
        warned = await cluster.http("PATCH", f"{path}Warn", patch, content_type=MERGE)
        assert warned.json["spec"] == {"replicas": 3}
        assert "unknown field" in warned.headers["Warning"]


async def test_many_warnings_are_cut_and_counted() -> None:
    async with api_cluster() as cluster:

        async def warned(*names: str) -> list[str]:
            body = {"metadata": {"name": "a"}, **dict.fromkeys(names, 1)}
            context = request_of("POST", f"{MAPS}?dryRun=All", body, ADMIN, "application/json", "")
            answer = await cluster.server.handle(context)
            return [value for name, value in answer.headers if name == "Warning"]

        few = await warned("x" * 300, "y")
        assert [len(text) for text in few] == [326, 27]
        assert [len(text) for text in await warned("x" * 5000)] == [265], "cut, not left out"
        many = await warned(*(f"{number:0300}" for number in range(40)))
        assert {len(text) for text in many} == {265}
        assert len(many) == 16
