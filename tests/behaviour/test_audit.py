"""The audit log: what a policy asks for, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from sampan.server import settings
from sampan.server.audit import log as audit_log
from sampan.server.audit import webhook
from sampan.server.audit.policy import parse
from sampan.server.documents import BadDocument
from sampan.server.entrance import receive
from sampan.server.exchange import Request, User
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.hooks import Call, Reply, hook_server, write_kubeconfig

NS = "/api/v1/namespaces/default"
BOB = User("bob", ("system:authenticated",))
HEAD = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy"}
EVERYTHING = {"level": "RequestResponse"}
STAGES = ["RequestReceived", "ResponseStarted"]


def written(folder: Path) -> list[dict[str, Any]]:
    path = folder / "audit.log"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@asynccontextmanager
async def audited(folder: Path, *rules: Any, **top: Any) -> AsyncIterator[Cluster]:
    """A cluster whose log holds only what comes from now on."""
    path = folder / "audit-policy.yaml"
    path.unlink(missing_ok=True)
    async with api_cluster(
        folder=folder, audit_log=folder / "audit.log", tokens={"bob": BOB}
    ) as cluster:
        path.write_text(yaml.safe_dump({**HEAD, "rules": list(rules), **top}))
        settings.load(cluster.server)
        yield cluster


async def test_an_event_says_who_asked_for_what_and_what_came_of_it(tmp_path: Path) -> None:
    async with audited(tmp_path, EVERYTHING, omitStages=["RequestReceived"]) as cluster:
        body = {"metadata": {"name": "c"}, "data": {"a": "b"}}
        assert (await cluster.http("POST", f"{NS}/configmaps", body)).status == 201
        await cluster.http("POST", f"{NS}/configmaps", body, user=BOB)
    created, refused = written(tmp_path)
    # Requests of the process itself have no id until they are written of.
    assert created["auditID"]
    assert created["auditID"] != refused["auditID"]
    assert created["level"] == "RequestResponse"
    assert created["stage"] == "ResponseComplete"
    assert created["verb"] == "create"
    assert created["requestURI"] == f"{NS}/configmaps"
    assert created["user"]["username"] == "admin"
    reference = created["objectRef"]
    assert (reference["resource"], reference["namespace"], reference["name"]) == (
        "configmaps",
        "default",
        "c",
    )
    assert reference["uid"]
    assert created["requestObject"]["data"] == {"a": "b"}
    assert created["responseObject"]["data"] == {"a": "b"}
    assert created["responseStatus"] == {"metadata": {}, "code": 201}
    assert created["annotations"] == {
        "authorization.k8s.io/decision": "allow",
        "authorization.k8s.io/reason": "",
    }
    for field in ("requestReceivedTimestamp", "stageTimestamp"):
        assert created[field].endswith("Z")
        assert "." in created[field]
    assert refused["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert refused["responseStatus"]["code"] == 403
    assert refused["responseStatus"]["reason"] == "Forbidden"
    assert "requestObject" not in refused, "what may not be asked is not read"


@pytest.mark.parametrize(
    ("level", "fields"),
    [
        ("Metadata", set()),
        ("Request", {"requestObject"}),
        ("RequestResponse", {"requestObject", "responseObject"}),
    ],
)
async def test_a_level_says_how_much_is_written(
    tmp_path: Path, level: str, fields: set[str]
) -> None:
    async with audited(tmp_path, {"level": level, "omitStages": STAGES}) as cluster:
        body = {"metadata": {"name": "s"}, "stringData": {"a": "hidden"}}
        await cluster.http("POST", f"{NS}/secrets", body)
    (event,) = written(tmp_path)
    assert {"requestObject", "responseObject"} & event.keys() == fields
    assert ("hidden" in (tmp_path / "audit.log").read_text()) is ("requestObject" in fields)


async def test_a_body_is_written_once(tmp_path: Path) -> None:
    async with audited(tmp_path, EVERYTHING) as cluster:
        await cluster.http("POST", f"{NS}/secrets", {"metadata": {"name": "s"}})
    received, complete = written(tmp_path)
    assert "requestObject" not in received
    assert "requestObject" in complete


async def test_the_first_rule_that_matches_decides(tmp_path: Path) -> None:
    rules = (
        {"level": "None", "users": ["bob"], "verbs": ["get"]},
        {"level": "None", "nonResourceURLs": ["/healthz*", "/version"]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["pods/log"]}]},
        {
            "level": "Metadata",
            "namespaces": ["default"],
            "resources": [{"group": "", "resources": ["configmaps"], "resourceNames": ["c"]}],
        },
        {"level": "Metadata", "userGroups": ["system:authenticated"], "verbs": ["list"]},
        {"level": "Metadata", "resources": [{"group": "apps", "resources": ["deployments/*"]}]},
    )
    async with audited(tmp_path, *rules, omitStages=STAGES) as cluster:
        for path, user in (
            (f"{NS}/configmaps/c", BOB),
            ("/healthz", BOB),
            ("/version", BOB),
            ("/livez", BOB),
            (f"{NS}/pods/x", None),
            (f"{NS}/configmaps/d", None),
        ):
            await cluster.http("GET", path, **({"user": user} if user else {}))
        assert written(tmp_path) == []
        apps = "/apis/apps/v1/namespaces/default/deployments/x"
        asked = [f"{NS}/pods/x/log", f"{NS}/configmaps/c", f"{NS}/secrets", apps, f"{apps}/scale"]
        for path in asked:
            await cluster.http("GET", path)
        cluster.server.audit.log.flush()  # type: ignore[union-attr]
        uris = [event["requestURI"] for event in written(tmp_path)]
        assert uris == asked


async def test_stages_of_a_watch(tmp_path: Path) -> None:
    async with audited(tmp_path, {"level": "Metadata"}) as cluster:
        stream = cluster.stream(f"{NS}/configmaps?watch=true&timeoutSeconds=30")
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        cluster.server.audit.log.flush()  # type: ignore[union-attr]
        stages = [event["stage"] for event in written(tmp_path)]
        assert stages == ["RequestReceived", "ResponseStarted"]
        await cluster.server.create_object(
            cluster.server.resources.find("", "v1", "configmaps"),  # type: ignore[arg-type]
            {"metadata": {"name": "x"}},
            "default",
        )
        await task
        await stream.aclose()  # type: ignore[attr-defined]
        cluster.server.audit.log.flush()  # type: ignore[union-attr]
        events = written(tmp_path)
        assert events[-1]["stage"] == "ResponseComplete"
        assert {event["auditID"] for event in events} == {events[0]["auditID"]}
        assert events[-1]["requestURI"].endswith("?watch=true&timeoutSeconds=30")


async def test_who_is_nobody_and_who_acts_as_another_is_written(tmp_path: Path) -> None:
    rule = {"level": "Metadata", "omitStages": ["RequestReceived"]}
    async with audited(tmp_path, rule) as cluster:

        async def ask(**headers: str) -> None:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            request = Request("GET", f"{NS}/pods", {}, named, b"", peer="10.1.2.3", audit_id="id")
            answer = receive(cluster.server, request, None)
            assert not asyncio.iscoroutine(answer)

        await ask(authorization="Bearer wrong")
        await ask(authorization="Bearer bob", impersonate_user="eve")
        await ask(authorization="Bearer bob", user_agent="x" * 2000, x_forwarded_for="1.1.1.1")
        text = (await cluster.http("GET", "/metrics")).body.decode()
        assert 'authentication_attempts{result="failure"} 1\n' in text
        assert 'authentication_attempts{result="success"} 2\n' in text
        assert "apiserver_audit_event_total 3\n" in text
    nobody, denied, plain, *_ = written(tmp_path)
    assert nobody["responseStatus"] == {
        "metadata": {},
        "message": "Authentication failed, attempted: bearer",
        "code": 401,
    }
    assert (nobody["stage"], nobody["user"]) == ("ResponseStarted", {})
    assert "annotations" not in nobody, "nothing was decided"
    assert denied["responseStatus"]["code"] == 403
    assert denied["user"]["username"] == "bob"
    assert plain["sourceIPs"] == ["1.1.1.1", "10.1.2.3"]
    assert plain["userAgent"].endswith("...TRUNCATED")
    assert plain["auditID"] == "id"


async def test_impersonation_is_written_with_the_right_that_allowed_it(tmp_path: Path) -> None:
    async with audited(tmp_path, {"level": "Metadata", "omitStages": STAGES}) as cluster:
        admin = User("root", ("system:masters",))
        request = Request("GET", f"{NS}/pods", {}, {"impersonate-user": "eve"}, b"")
        cluster.server.authn.authenticate = lambda headers, cert: admin  # type: ignore[method-assign]
        receive(cluster.server, request, None)
    (event,) = written(tmp_path)
    assert event["user"]["username"] == "root"
    assert event["impersonatedUser"]["username"] == "eve"
    assert event["authenticationMetadata"] == {"impersonationConstraint": "impersonate:user-info"}


async def test_managed_fields_are_left_out_if_the_policy_says_so(tmp_path: Path) -> None:
    fields = [{"manager": "m", "operation": "Update", "apiVersion": "v1",
               "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}}]  # fmt: skip
    for omit in (True, False):
        (tmp_path / "audit.log").unlink(missing_ok=True)
        rule = {**EVERYTHING, "omitManagedFields": omit, "omitStages": STAGES}
        async with audited(tmp_path, rule) as cluster:
            body = {"metadata": {"name": "c", "managedFields": fields}, "data": {"a": "b"}}
            await cluster.http("POST", f"{NS}/configmaps", body)
            await cluster.http("GET", f"{NS}/configmaps")
        assert ("managedFields" not in (tmp_path / "audit.log").read_text()) is omit


async def test_without_a_policy_nothing_is_there(tmp_path: Path) -> None:
    async with api_cluster(folder=tmp_path, audit_log=tmp_path / "audit.log") as cluster:
        await cluster.http("GET", f"{NS}/pods")
        assert cluster.server.audit is None
    assert not (tmp_path / "audit.log").exists()


async def test_the_file_rotates_and_a_full_disk_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "SIZE_BYTES", 1000)
    monkeypatch.setattr(audit_log, "FILES", 2)
    made = audit_log.Log(tmp_path / "audit.log")
    for number in range(20):
        made.write(orjson.dumps({"n": number, "text": "x" * 500}))
        made.flush()
    names = sorted(os.listdir(tmp_path))
    assert len(names) == 3
    assert names[-1] == "audit.log"
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600

    def full(*args: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit_log.os, "write", full)
    made.write(orjson.dumps({"n": 1}))
    made.flush()
    assert made.lost == 1
    made.close()


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({}, "apiVersion and kind"),
        ({**HEAD}, "at least one"),
        ({**HEAD, "rules": [{}]}, "level: must be one of"),
        (
            {**HEAD, "rules": [{"level": "Metadata", "surprise": 1}]},
            "unknown field rules[0].surprise",
        ),
        ({**HEAD, "rules": [{"level": "None", "nonResourceURLs": ["a"]}]}, "must be * or begin"),
        (
            {**HEAD, "rules": [{"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["x"]}]},
            "cannot apply to both",
        ),
        ({**HEAD, "rules": [{"level": "None", "omitStages": ["Later"]}]}, "is no stage"),
        (
            {**HEAD, "rules": [{"level": "None", "resources": [{"resourceNames": ["x"]}]}]},
            "requires at least one resource",
        ),
        (
            {**HEAD, "rules": [{"level": "None", "resources": [{"group": "*"}]}]},
            "no name of a group",
        ),
    ],
)
def test_a_policy_that_is_none_is_refused(policy: Any, why: str) -> None:
    with pytest.raises(BadDocument, match=re.escape(why)):
        parse(policy)


async def test_a_log_that_is_closed_or_taken_away_is_never_another_file(tmp_path: Path) -> None:
    """The number of a closed descriptor is given to the next file that is opened."""
    log = audit_log.Log(tmp_path / "audit.log")
    log.write(orjson.dumps({"a": 1}))
    log.close()
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    log.write(orjson.dumps({"a": 2}))
    await asyncio.sleep(0)
    os.close(other)
    assert (tmp_path / "other").read_bytes() == b""
    assert written(tmp_path) == [{"a": 1}]


async def test_a_log_goes_on_when_its_file_was_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "SIZE_BYTES", 1)
    log = audit_log.Log(tmp_path / "audit.log")
    log.write(orjson.dumps({"a": 1}))
    log.flush()
    log.path.unlink()
    log.write(orjson.dumps({"a": 2}))
    log.close()
    assert (written(tmp_path), log.lost) == ([{"a": 2}], 0)


async def test_a_watch_that_outlives_its_policy_is_written_of_as_it_was(tmp_path: Path) -> None:
    async with audited(tmp_path, EVERYTHING, omitStages=STAGES) as cluster:
        watch = cluster.stream(f"{NS}/configmaps?watch=1")
        await cluster.http("POST", f"{NS}/configmaps", {"metadata": {"name": "c"}})
        while (await anext(watch))["object"]["metadata"]["name"] != "c":
            pass
        settings.load(cluster.server)
        await watch.aclose()  # type: ignore[attr-defined]
    assert [event["verb"] for event in written(tmp_path)] == ["create", "watch"]


async def test_a_body_that_is_yaml_but_begins_like_json_is_written(tmp_path: Path) -> None:
    async with audited(tmp_path, EVERYTHING, omitStages=STAGES) as cluster:
        body = b"{kind: ConfigMap, apiVersion: v1, metadata: {name: c}}"
        made = await cluster.http("POST", f"{NS}/configmaps", body, content_type="application/yaml")
        assert made.status == 201
    (event,) = written(tmp_path)
    assert event["requestObject"]["metadata"] == {"name": "c"}


async def test_a_webhook_gets_the_events_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "BATCH", 2)
    monkeypatch.setattr(webhook, "BUFFER", 4)
    refused = [Reply(status=500), Reply(status=403)]
    full = asyncio.Event()

    async def take(call: Call) -> Reply:
        if len(hook.calls) >= 3:
            full.set()
        return refused.pop(0) if refused else Reply()

    async with hook_server(take) as hook:
        write_kubeconfig(tmp_path / "audit-webhook.kubeconfig", hook.url("/audit"), hook.bundle)
        async with audited(tmp_path, {"level": "Metadata"}, omitStages=STAGES) as cluster:
            monkeypatch.setattr(webhook, "PAUSE_S", 0)
            for _ in range(5):
                await cluster.http("GET", f"{NS}/configmaps")
            await full.wait()
            audit = cluster.server.audit
            assert audit is not None
            assert audit.webhook is not None
            settings.load(cluster.server)
            assert cluster.server.audit is not audit
            assert cluster.server.audit is not None
            assert cluster.server.audit.webhook is audit.webhook, "it keeps what it has"
        # The first list came again after a 500, the second met a 403 and was given up; the fifth
        # event went when the server ended.
        assert audit.webhook.lost == 2
    lists = [call.json for call in hook.calls]
    assert {item["kind"] for item in lists} == {"EventList"}
    assert sorted(len(item["items"]) for item in lists) == [1, 2, 2, 2]
    sent = {event["auditID"] for item in lists for event in item["items"]}
    assert sent == {event["auditID"] for event in written(tmp_path)}
