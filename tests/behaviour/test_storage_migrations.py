"""StorageVersionMigrations: objects are stored anew, and nobody but who asked for it notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from sampan.aio.clock import Clock, SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object, TooManyRequests
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.client.interface import Transport
from sampan.controllers import storageversionmigrator
from sampan.controllers.runtime.controller import Context, Options
from sampan.controllers.storageversionmigrator import GRACE_S, StorageVersionMigrator
from sampan.store.sqlite import SqliteStore
from tests.behaviour.test_custom_versions import PORTS_V1, PORTS_V2, bench, converted
from tests.behaviour.test_encryption import keys
from tests.behaviour.test_policies import POLICIES, binding, policy
from tests.kit.clock import FakeClock, settle
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.definitions import (
    DEFINITIONS,
    MERGE,
    WIDGETS,
    conditions,
    definition,
    version,
    widget,
)
from tests.kit.mortal import Mortal

MIGRATIONS = "/apis/storagemigration.k8s.io/v1beta1/storageversionmigrations"
MIGRATION = resource("storageversionmigrations", "storagemigration.k8s.io")
ONE = f"{DEFINITIONS}/widgets.example.com"
STORED = "/registry/example.com/widgets/"
V2 = WIDGETS.replace("/v1/", "/v2/")
PATIENCE_S = 20.0
DONE = [
    ("Running", "False", "MigrationCompleted", "Migration completed"),
    ("Succeeded", "True", "StorageVersionMigrationSucceeded", ""),
]


@asynccontextmanager
async def migrating(transport: Transport, clock: Clock | None = None) -> AsyncIterator[Supervisor]:
    """The controller alone."""
    supervisor, client = Supervisor(), Client(transport)
    time = clock or SystemClock()
    context = Context(client, Informers(client, supervisor, time), supervisor, time, Options())
    controller = StorageVersionMigrator(context)
    supervisor.start("migrator", controller.run)
    try:
        yield supervisor
    finally:
        await controller.queue.stop()
        await supervisor.stop()


async def until(cluster: Cluster, name: str, condition: Callable[[Object], Any]) -> Object:
    """The migration once the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        async for event in cluster.stream(f"{MIGRATIONS}?watch=1"):
            found: Object = event["object"]
            if found["metadata"]["name"] == name and condition(found):
                return found
    raise AssertionError


def is_over(migration: Object) -> bool:
    return any(item[0] in ("Succeeded", "Failed") for item in said(migration))


def said(migration: Object) -> list[tuple[str, str, str, str]]:
    return [
        (item["type"], item["status"], item["reason"], item["message"])
        for item in (migration.get("status") or {}).get("conditions") or ()
    ]


async def ask(cluster: Cluster, name: str = "m", plural: str = "widgets",
              group: str = "example.com") -> None:  # fmt: skip
    body = {"metadata": {"name": name}, "spec": {"resource": {"group": group, "resource": plural}}}
    made = await cluster.http("POST", MIGRATIONS, body)
    assert made.status == 201, made.message


async def move(cluster: Cluster, count: int) -> None:
    """Widgets that are stored as v1, of a definition that stores v2 by now."""
    both = (version("v1"), version("v2", storage=False))
    assert (await cluster.http("POST", DEFINITIONS, definition(*both))).status == 201
    for number in range(count):
        made = await cluster.http("POST", WIDGETS, widget(f"w{number:02}", size=number))
        assert made.status == 201
    await store_in_v2(cluster)


async def store_in_v2(cluster: Cluster) -> None:
    spec = {"versions": [version("v1", storage=False), version("v2")]}
    moved = await cluster.http("PATCH", ONE, {"spec": spec}, content_type=MERGE)
    assert moved.status == 200, moved.message


def stored(cluster: Cluster) -> dict[str, tuple[str, int]]:
    """(version, revision) of each widget as it is stored."""
    return {
        item.key.removeprefix(f"{STORED}default/"): (
            orjson.loads(item.value)["apiVersion"], item.modified,
        )
        for item in cluster.store.range(STORED).records
    }  # fmt: skip


async def test_custom_objects_are_stored_in_the_new_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storageversionmigrator, "PAGE_LENGTH", 10)
    async with api_cluster() as cluster, migrating(cluster.client.transport):
        await move(cluster, 35)
        await cluster.http("POST", V2, widget("new", "example.com/v2"))
        before, found = stored(cluster), (await cluster.http("GET", V2)).json["items"]
        assert sum(item[0] == "example.com/v1" for item in before.values()) == 35
        await ask(cluster)
        migration = await until(cluster, "m", is_over)
        assert said(migration) == DONE
        assert int(migration["status"]["resourceVersion"]) >= before["new"][1]
        after = stored(cluster)
        assert {item[0] for item in after.values()} == {"example.com/v2"}
        assert after["new"] == before["new"]
        # Nothing but the revision is another: no owner of fields has come, nothing has grown.
        for item, other in zip(found, (await cluster.http("GET", V2)).json["items"], strict=True):
            item["metadata"]["resourceVersion"] = other["metadata"]["resourceVersion"]
            assert item == other
        one = (await cluster.http("GET", ONE)).json
        assert one["status"]["storedVersions"] == ["v2"]
        assert conditions(one)["StorageMigrating"] == ("False", "MigrationSucceeded")
        # What is stored as it should be is not written again.
        await ask(cluster, "again")
        assert said(await until(cluster, "again", is_over)) == DONE
        assert stored(cluster) == after
        await settle()
        one = (await cluster.http("GET", ONE)).json
        assert conditions(one)["StorageMigrating"] == ("False", "MigrationSucceeded")
        # And the old version may go.
        spec = {"versions": [version("v2")]}
        gone = await cluster.http("PATCH", ONE, {"spec": spec}, content_type=MERGE)
        assert gone.status == 200, gone.message


async def test_one_of_a_resource_runs_at_a_time_and_each_ends_whoever_dies() -> None:
    for writes in range(1, 12):
        async with api_cluster() as cluster:
            await move(cluster, 3)
            await ask(cluster, "a")
            await ask(cluster, "b")
            mortal = Mortal(cluster.client.transport, writes)
            async with migrating(mortal):
                async with asyncio.timeout(PATIENCE_S):
                    await mortal.dead.wait()
            known = (await cluster.http("GET", MIGRATIONS)).json["items"]
            states = [words[:2] for item in known for words in said(item)]
            assert states.count(("Running", "True")) <= 1
            async with migrating(cluster.client.transport):
                for name in ("a", "b"):
                    assert said(await until(cluster, name, is_over)) == DONE, writes
            assert {item[0] for item in stored(cluster).values()} == {"example.com/v2"}, writes
            one = (await cluster.http("GET", ONE)).json
            assert one["status"]["storedVersions"] == ["v2"], writes
            assert conditions(one)["StorageMigrating"] == ("False", "MigrationSucceeded"), writes


async def test_a_definition_that_changes_meanwhile_keeps_its_stored_versions() -> None:
    async with api_cluster() as cluster:
        await move(cluster, 2)
        await ask(cluster)
        # It dies once it runs: the definition is marked, nothing is written yet.
        mortal = Mortal(cluster.client.transport, 2)
        async with migrating(mortal):
            async with asyncio.timeout(PATIENCE_S):
                await mortal.dead.wait()
        one = (await cluster.http("GET", ONE)).json
        assert conditions(one)["StorageMigrating"] == ("True", "MigrationRunning")
        spec = {"names": {**one["spec"]["names"], "shortNames": ["w"]}}
        await cluster.http("PATCH", ONE, {"spec": spec}, content_type=MERGE)
        async with migrating(cluster.client.transport):
            assert said(await until(cluster, "m", is_over)) == DONE
        status = (await cluster.http("GET", ONE)).json["status"]
        assert status["storedVersions"] == ["v1", "v2"]
        assert status["conditions"][-1]["message"] == (
            "The migration has succeeded but the stored versions have not been updated due to a "
            "generation mismatch"
        )


async def test_what_is_refused_fails_it() -> None:
    async with api_cluster() as cluster:
        await move(cluster, 2)
        rule = {"apiGroups": ["example.com"], "apiVersions": ["*"], "operations": ["UPDATE"],
                "resources": ["widgets"]}  # fmt: skip
        rules = [{"expression": "false", "message": "leave them alone"}]
        never = policy(matchConstraints={"resourceRules": [rule]}, validations=rules)
        for plural, body in (
            ("validatingadmissionpolicies", never),
            ("validatingadmissionpolicybindings", binding(validationActions=["Deny"])),
        ):
            assert (await cluster.http("POST", POLICIES + plural, body)).status == 201
        await ask(cluster)
        async with migrating(cluster.client.transport):
            migration = await until(cluster, "m", is_over)
        assert said(migration)[0] == DONE[0]
        kind, state, reason, message = said(migration)[1]
        assert (kind, state, reason) == ("Failed", "True", "StorageVersionMigrationFailed")
        assert message.startswith('migration encountered unhandled error: widgets.example.com "w0')
        assert message.endswith("leave them alone")
        one = (await cluster.http("GET", ONE)).json
        assert conditions(one)["StorageMigrating"] == ("False", "MigrationFailed")
        assert one["status"]["storedVersions"] == ["v1", "v2"], "objects are left in it"


async def test_one_that_is_deleted_while_it_runs_leaves_no_mark() -> None:
    async with api_cluster() as cluster:
        await move(cluster, 1)
        await ask(cluster)
        mortal = Mortal(cluster.client.transport, 2)
        async with migrating(mortal):
            async with asyncio.timeout(PATIENCE_S):
                await mortal.dead.wait()
        assert (await cluster.http("DELETE", f"{MIGRATIONS}/m")).status == 200
        async with migrating(cluster.client.transport):
            await settle()
        one = (await cluster.http("GET", ONE)).json
        assert conditions(one)["StorageMigrating"] == ("False", "MigrationFailed")
        assert one["status"]["storedVersions"] == ["v1", "v2"]


class Meddler(Mortal):
    """Between a page and its writes, others write; and a write may be refused for once."""

    def __init__(self, inner: Transport, meddle: Callable[[], Any]) -> None:
        super().__init__(inner, 0)
        self.meddle = meddle
        self.busy = ""
        """The end of a path: the first write there is one too many."""
        self.patched: list[str] = []

    async def request(self, method: str, path: str, **more: Any) -> Object:
        if method == "PATCH":
            self.patched.append(path.rpartition("/")[2])
            if self.busy and path.endswith(self.busy):
                self.busy = ""
                raise TooManyRequests("too many")
        answer = await super().request(method, path, **more)
        if method == "GET" and path.endswith("/widgets") and self.writes > 1:
            await self.meddle()
        return answer


async def test_what_others_write_meanwhile_needs_none_and_what_may_pass_is_tried_again() -> None:
    async with api_cluster() as cluster:
        await move(cluster, 5)
        pages = 0

        async def meddle() -> None:
            nonlocal pages
            pages += 1
            if pages > 1:
                return
            for name in ("w00", "w01"):
                assert (await cluster.http("DELETE", f"{V2}/{name}")).status == 200
            again = widget("w01", "example.com/v2", size=7)
            assert (await cluster.http("POST", V2, again)).status == 201
            body = {"spec": {"size": 8}}
            await cluster.http("PATCH", f"{V2}/w02", body, content_type=MERGE)

        meddler = Meddler(cluster.client.transport, meddle)
        meddler.busy = "/w03"
        await ask(cluster)
        async with migrating(meddler):
            assert said(await until(cluster, "m", is_over)) == DONE
        assert sorted(meddler.patched) == ["w00", "w01", "w02", "w03", "w03", "w04"]
        found = (await cluster.http("GET", V2)).json["items"]
        sizes = {item["metadata"]["name"]: item["spec"]["size"] for item in found}
        assert sizes == {"w01": 7, "w02": 8, "w03": 3, "w04": 4}
        assert {item[0] for item in stored(cluster).values()} == {"example.com/v2"}


async def test_nothing_more_is_written_once_it_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storageversionmigrator, "PAGE_LENGTH", 1)
    async with api_cluster() as cluster:
        await move(cluster, 4)

        async def meddle() -> None:
            await cluster.http("DELETE", f"{MIGRATIONS}/m")
            await settle()

        meddler = Meddler(cluster.client.transport, meddle)
        await ask(cluster)
        async with migrating(meddler):
            await settle(500)
        assert meddler.patched == ["w00"]


async def test_it_waits_a_minute_for_its_definition() -> None:
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster, migrating(cluster.client.transport, clock):
        await ask(cluster)
        await ask(cluster, "never", "nothings")
        await ask(cluster, "computed", "componentstatuses", "")
        failed = await until(cluster, "computed", is_over)
        why = "resource is not migratable"
        assert said(failed) == [("Failed", "True", "StorageVersionMigrationFailed", why)]
        assert (await cluster.http("POST", DEFINITIONS, definition())).status == 201
        assert said(await until(cluster, "m", is_over)) == DONE
        await settle()
        assert not is_over((await cluster.http("GET", f"{MIGRATIONS}/never")).json)
        await clock.advance(GRACE_S + 1)
        why = "resource does not exist in discovery"
        failed = await until(cluster, "never", is_over)
        assert said(failed) == [("Failed", "True", "StorageVersionMigrationFailed", why)]


async def test_secrets_are_sealed_by_the_new_key(tmp_path: Path) -> None:
    path, secrets = tmp_path / "state.db", "/api/v1/namespaces/default/secrets"
    for names, stale in ((("k1",), 0), (("k2", "k1"), 3)):
        store = SqliteStore.open(path, keys(*names))
        async with api_cluster(store=store) as cluster, migrating(cluster.client.transport):
            for number in range(3 - stale):
                await cluster.http("POST", secrets, {"metadata": {"name": f"s{number}"}})
            records = store.range("/registry/secrets/default/").records
            assert sum(map(store.is_stale, records)) == stale
            await ask(cluster, names[0], "secrets", "")
            assert said(await until(cluster, names[0], is_over)) == DONE
            after = store.range("/registry/secrets/default/").records
            assert not any(map(store.is_stale, after))
            assert (records == after) is not bool(stale), "and is written once"
        await store.close()


async def test_an_object_whose_fields_nobody_owns_stays_as_it_is() -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    async with api_cluster() as cluster, migrating(cluster.client.transport):
        untracked = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}
        assert (await cluster.http("POST", accounts, untracked)).status == 201
        untracked["metadata"] = {"name": "a", "managedFields": [{}]}
        before = (await cluster.http("PATCH", f"{accounts}/a", untracked, content_type=MERGE)).json
        assert "managedFields" not in before["metadata"]
        await ask(cluster, "m", "serviceaccounts", "")
        assert said(await until(cluster, "m", is_over)) == DONE
        assert (await cluster.http("GET", f"{accounts}/a")).json == before


async def test_a_conversion_webhook_converts_and_is_waited_for() -> None:
    away, asked = True, asyncio.Event()

    def respond(request: Object) -> Object:
        asked.set()
        if away:
            return {"result": {"status": "Failure", "message": "away"}}
        wanted = request["desiredAPIVersion"]
        objects = [converted(item, wanted) for item in request["objects"]]
        return {"result": {"status": "Success"}, "convertedObjects": objects}

    async with bench(respond=respond) as b:
        await b.define()
        made = []
        for number in range(4):
            body = widget(f"w{number}", hostPort=f"h:{number}")
            made.append((await b.cluster.http("POST", WIDGETS, body)).json["metadata"])
        spec = {"versions": [version("v1", PORTS_V1, storage=False), version("v2", PORTS_V2)]}
        moved = await b.cluster.http("PATCH", ONE, {"spec": spec}, content_type=MERGE)
        assert moved.status == 200, moved.message
        await ask(b.cluster)
        async with migrating(b.cluster.client.transport):
            async with asyncio.timeout(PATIENCE_S):
                await asked.wait()
            assert not is_over((await b.cluster.http("GET", f"{MIGRATIONS}/m")).json)
            away = False
            assert said(await until(b.cluster, "m", is_over)) == DONE
        found = [orjson.loads(item.value) for item in b.cluster.store.range(STORED).records]
        for number, (before, after) in enumerate(zip(made, found, strict=True)):
            assert after["spec"] == {"host": "h", "port": str(number), "kind": "web"}
            assert after["metadata"]["managedFields"] == before["managedFields"]
        assert len(b.hook.calls) < 8, "a page is converted in one call"


async def test_many_at_once_amid_those_who_make_and_delete() -> None:
    """Upstream's TestStorageVersionMigrationDuringChaos."""
    async with api_cluster() as cluster, migrating(cluster.client.transport):
        await move(cluster, 0)
        for number in range(20):
            await cluster.http("POST", V2, widget(f"still{number}", "example.com/v2"))
        still = stored(cluster)
        names = [f"m{number}" for number in range(10)]
        over = False

        async def stir(name: str) -> None:
            while not over:
                assert (await cluster.http("POST", WIDGETS, widget(name))).status == 201
                await asyncio.sleep(0)
                assert (await cluster.http("DELETE", f"{V2}/{name}")).status == 200

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(stir(f"stirred{number}"))
            for name in names:
                await ask(cluster, name)
            for name in names:
                assert said(await until(cluster, name, is_over)) == DONE
            over = True
        assert stored(cluster) == still, "a migration of what is stored as it should be is none"
