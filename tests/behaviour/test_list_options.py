"""What a list or watch may be asked for, and what upstream answers to the rest."""

from __future__ import annotations

import asyncio
import base64
from contextlib import aclosing

import orjson
import pytest

from sampan.server.listoptions import make_token, read_token
from tests.kit.cluster import api_cluster

CM = "/api/v1/namespaces/default/configmaps"
INVALID = 'ListOptions.meta.k8s.io "" is invalid: '
MATCH = "resourceVersionMatch"
FORBIDDEN = f"{MATCH}: Forbidden: "
NOT_OLDER = f"{MATCH}=NotOlderThan"

REFUSED = (
    (f"{MATCH}=Exact", 422, f"{INVALID}{FORBIDDEN}{MATCH} is forbidden unless resourceVersion is "
     "provided"),
    (f"resourceVersion=1&{MATCH}=Exact&continue=x", 422,
     f"{INVALID}{FORBIDDEN}{MATCH} is forbidden when continue is provided"),
    (f"resourceVersion=0&{MATCH}=Exact", 422,
     f'{INVALID}{FORBIDDEN}{MATCH} "exact" is forbidden for resourceVersion "0"'),
    (f"resourceVersion=1&{MATCH}=Newest", 422,
     f'{INVALID}{MATCH}: Unsupported value: "Newest": supported values: "Exact", "NotOlderThan", '
     '""'),
    ("sendInitialEvents=true", 422,
     f"{INVALID}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
    ("watch=1&sendInitialEvents=false", 422,
     f"{INVALID}{FORBIDDEN}sendInitialEvents requires setting {MATCH} to NotOlderThan"),
    (f"watch=1&{NOT_OLDER}", 422,
     f"{INVALID}{FORBIDDEN}{MATCH} is forbidden for watch unless sendInitialEvents is provided"),
    (f"watch=1&sendInitialEvents=1&{NOT_OLDER}&continue=x", 422,
     f"{INVALID}{FORBIDDEN}{MATCH} is forbidden when continue is provided"),
    (f"watch=1&sendInitialEvents=1&{MATCH}=Exact", 422,
     f"{INVALID}[{FORBIDDEN}sendInitialEvents requires setting {MATCH} to NotOlderThan, "
     f'{MATCH}: Unsupported value: "Exact": supported values: "NotOlderThan"]'),
    ("limit=many", 400, 'strconv.ParseInt: parsing "many": invalid syntax'),
    ("limit=9223372036854775808", 400,
     'strconv.ParseInt: parsing "9223372036854775808": value out of range'),
    ("watch=1&timeoutSeconds=1.5", 400, 'strconv.ParseInt: parsing "1.5": invalid syntax'),
    ("resourceVersion=new", 400,
     'invalid resource version: resourceVersion: Invalid value: "new": strconv.ParseUint: parsing '
     '"new": invalid syntax'),
    ("watch=1&resourceVersion=-1", 400,
     'invalid resource version: resourceVersion: Invalid value: "-1": strconv.ParseUint: parsing '
     '"-1": invalid syntax'),
    ("fieldSelector=data.x%3D1", 400,
     '"data.x" is not a known field selector: only "metadata.name", "metadata.namespace"'),
    ("fieldSelector=metadata.name", 400,
     "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
)  # fmt: skip


@pytest.mark.parametrize(("query", "status", "message"), REFUSED)
async def test_what_cannot_be_asked_for(query: str, status: int, message: str) -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http("GET", f"{CM}?{query}")
        assert (answer.status, answer.message) == (status, message)


FIELDS = (
    ("/api/v1/pods", "field label not supported: spec.x"),
    ("/apis/batch/v1/jobs", 'field label "spec.x" not supported for batchv1.Job'),
    ("/apis/apps/v1/deployments",
     '"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"'),
    ("/apis/apps/v1/replicasets", "field label not supported: spec.x"),
    ("/apis/resource.k8s.io/v1/resourceslices",
     "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: spec.x"),
)  # fmt: skip


@pytest.mark.parametrize(("path", "message"), FIELDS)
async def test_fields_a_kind_does_not_select_by(path: str, message: str) -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http("GET", f"{path}?fieldSelector=spec.x%3D1")
        assert (answer.status, answer.message) == (400, message)


def token(**values: object) -> str:
    raw = {"v": "meta.k8s.io/v1", "rv": 1, "start": "a\0", **values}
    return base64.urlsafe_b64encode(orjson.dumps(raw)).decode().rstrip("=")


BAD_TOKENS = (
    ("%%%", "continue key is not valid: illegal base64 data at input byte 0"),
    ("ab=d", "continue key is not valid: illegal base64 data at input byte 2"),
    ("abcde", "continue key is not valid: illegal base64 data at input byte 4"),
    ("abc", "continue key is not valid: invalid character 'i' looking for beginning of value"),
    ("W10", "continue key is not valid: json: cannot unmarshal array into Go value of type "
     "storage.continueToken"),
    ("bnVsbA", "continue key is not valid: server does not recognize this encoded version "),
    (token(v="v2"), "continue key is not valid: server does not recognize this encoded version v2"),
    (token(rv=0), "continue key is not valid: incorrect encoded start resourceVersion "
     "(version meta.k8s.io/v1)"),
    (token(start=""), "continue key is not valid: encoded start key empty "
     "(version meta.k8s.io/v1)"),
    (token(start="../../secrets/kube-system/x\0"),
     "continue key is not valid: ../../secrets/kube-system/x\0"),
    (token(start="a//b\0"), "continue key is not valid: a//b\0"),
)  # fmt: skip


@pytest.mark.parametrize(("given", "why"), BAD_TOKENS)
async def test_a_token_nobody_gave_out(given: str, why: str) -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http("GET", f"{CM}?limit=1&continue={given.replace('%', '%25')}")
        assert (answer.status, answer.message) == (400, f"invalid continue token: {why}")


async def test_a_token_of_the_future_and_one_with_a_version() -> None:
    async with api_cluster() as cluster:
        ahead = await cluster.http("GET", f"{CM}?continue={token(rv=10**9)}")
        assert (ahead.status, ahead.json["reason"]) == (504, "Timeout")
        both = await cluster.http("GET", f"{CM}?continue={token()}&resourceVersion=1")
        assert both.status == 400
        assert both.message == "specifying resource version is not allowed when using continue"


def test_tokens_are_read_as_they_were_made() -> None:
    made = make_token(7, "/registry/pods/n/a", "/registry/pods/")
    assert read_token(made, "/registry/pods/") == (7, "/registry/pods/n/a")
    assert orjson.loads(base64.urlsafe_b64decode(made + "==")) == {
        "v": "meta.k8s.io/v1", "rv": 7, "start": "n/a\0",
    }  # fmt: skip
    assert read_token(token(rv=-1), "/p/") == (0, "/p/a")


async def test_watch_is_true_unless_it_is_false() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        for text in ("false", "False", "0"):
            answer = await cluster.http("GET", f"{CM}?watch={text}")
            assert answer.json["kind"] == "ConfigMapList"
        for text in ("zz", "", "1", "TRUE"):
            async with aclosing(cluster.stream(f"{CM}?watch={text}")) as events:
                assert (await anext(events))["type"] == "ADDED"
        # On a name it means nothing: only the old paths watch one object.
        named = await cluster.http("GET", f"{CM}/a?watch=1")
        assert named.json["kind"] == "ConfigMap"


async def test_the_old_paths_watch() -> None:
    async with api_cluster() as cluster:
        for name in ("a", "b"):
            await cluster.http("POST", CM, {"metadata": {"name": name}})
        base = "/api/v1/watch/namespaces/default/configmaps"
        async with aclosing(cluster.stream(f"{base}/b")) as events:
            assert (await anext(events))["object"]["metadata"]["name"] == "b"
        async with aclosing(cluster.stream(base)) as events:
            assert (await anext(events))["object"]["metadata"]["name"] == "a"
        other = await cluster.http("GET", f"{base}/b?fieldSelector=metadata.name%3Da")
        assert other.message == "fieldSelector metadata.name doesn't match requested name"


async def test_initial_events_may_be_declined() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        query = f"watch=1&sendInitialEvents=false&{NOT_OLDER}"
        async with aclosing(cluster.stream(f"{CM}?{query}")) as events:
            first = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            await cluster.http("POST", CM, {"metadata": {"name": "b"}})
            assert (await first)["object"]["metadata"]["name"] == "b"


async def test_a_namespace_that_is_not_there_lists_nothing() -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http("GET", "/api/v1/namespaces/nowhere/pods")
        assert (answer.status, answer.json["items"]) == (200, [])
        assert "selfLink" not in answer.json["metadata"]
        assert answer.json["metadata"]["resourceVersion"] == str(cluster.store.revision)


async def test_a_get_of_a_version() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        for version in ("0", "1", str(cluster.store.revision)):
            answer = await cluster.http("GET", f"{CM}/a?resourceVersion={version}")
            assert answer.json["metadata"]["resourceVersion"] == str(cluster.store.revision)
        ahead = await cluster.http("GET", f"{CM}/a?resourceVersion=1000000")
        assert (ahead.status, ahead.headers["Retry-After"]) == (504, "1")
