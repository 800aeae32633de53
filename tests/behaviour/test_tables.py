"""Tables and metadata-only forms, in answers and in watches."""

from __future__ import annotations

from contextlib import aclosing

from sampan.api.kinds.printing import human_duration
from tests.kit.cluster import api_cluster

CM = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
PARTIALS = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"


async def test_a_list_as_a_table() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}, "data": {"k": "v"}})
        table = (await cluster.http("GET", CM, accept=TABLE)).json
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        assert table["columnDefinitions"][0]["name"] == "Name"
        row = table["rows"][-1]
        assert row["cells"][0] == "a"
        assert row["object"]["kind"] == "PartialObjectMetadata"
        assert table["metadata"]["resourceVersion"] == str(cluster.store.revision)
        one = (await cluster.http("GET", f"{CM}/a?includeObject=Object", accept=TABLE)).json
        assert one["rows"][0]["object"]["data"] == {"k": "v"}
        none = (await cluster.http("GET", f"{CM}/a?includeObject=None", accept=TABLE)).json
        assert not none["rows"][0].get("object")


async def test_metadata_alone() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}, "data": {"k": "v"}})
        one = (await cluster.http("GET", f"{CM}/a", accept=PARTIAL)).json
        assert (one["kind"], one["metadata"]["name"]) == ("PartialObjectMetadata", "a")
        assert "data" not in one
        many = (await cluster.http("GET", CM, accept=PARTIALS)).json
        assert many["kind"] == "PartialObjectMetadataList"
        assert {item["kind"] for item in many["items"]} == {"PartialObjectMetadata"}


async def test_a_watch_as_tables_names_columns_once() -> None:
    async with api_cluster() as cluster:
        async with aclosing(cluster.stream(f"{CM}?watch=1", accept=TABLE)) as events:
            await cluster.http("POST", CM, {"metadata": {"name": "a"}})
            await cluster.http("POST", CM, {"metadata": {"name": "b"}})
            first, second = await anext(events), await anext(events)
        assert first["object"]["kind"] == "Table"
        assert first["object"]["columnDefinitions"][0]["name"] == "Name"
        assert second["object"]["columnDefinitions"] is None
        assert second["object"]["rows"][0]["cells"][0] == "b"


async def test_errors_and_statuses_are_never_tables() -> None:
    async with api_cluster() as cluster:
        assert (await cluster.http("GET", f"{CM}/x", accept=TABLE)).json["kind"] == "Status"
        await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        assert (await cluster.http("DELETE", f"{CM}/a", accept=TABLE)).json["kind"] == "Status"


def test_ages_read_as_kubectl_writes_them() -> None:
    minute, hour, day = 60, 3600, 86400
    for seconds, text in (
        (0, "0s"), (119, "119s"), (2 * minute, "2m"), (2 * minute + 5, "2m5s"),
        (10 * minute, "10m"),
        (179 * minute, "179m"), (3 * hour, "3h"), (3 * hour + minute, "3h1m"), (8 * hour, "8h"),
        (47 * hour, "47h"), (2 * day, "2d"), (2 * day + hour, "2d1h"), (8 * day, "8d"),
        (729 * day, "729d"), (2 * 365 * day, "2y"), (3 * 365 * day + 12 * day, "3y12d"),
        (9 * 365 * day, "9y"),
    ):  # fmt: skip
        assert human_duration(seconds) == text


async def test_a_scale_prints_its_replicas() -> None:
    async with api_cluster() as cluster:
        labels = {"app": "x"}
        pods = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": pods}
        path = "/apis/apps/v1/namespaces/default/deployments"
        made = await cluster.http("POST", path, {"metadata": {"name": "d"}, "spec": spec})
        assert made.status == 201, made.message
        table = (await cluster.http("GET", f"{path}/d/scale", accept=TABLE)).json
        names = [column["name"] for column in table["columnDefinitions"]]
        assert names == ["Name", "Desired", "Available", "Age"]
        assert table["rows"][0]["cells"][:3] == ["d", 3, 0]


async def test_deprecated_kinds_say_so_with_every_answer() -> None:
    warning = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    path = "/api/v1/namespaces/default/endpoints"
    async with api_cluster() as cluster:
        for method, url, body in (
            ("POST", path, {"metadata": {"name": "e"}}),
            ("GET", path, None),
            ("GET", f"{path}/e", None),
            ("GET", f"{path}/missing", None),
            ("DELETE", f"{path}/e", None),
        ):
            answer = await cluster.http(method, url, body)
            assert answer.headers["Warning"] == warning, (method, url)
        assert "Warning" not in (await cluster.http("GET", CM)).headers
