"""Schemathesis: every operation of the served OpenAPI, with what its schema allows and what it does
not. Whatever is sent, the answer is never a 5xx and never missing, others are still served, and
nothing of it is kept.

`make trust` raises the number per operation; the seed is the slice's.
"""

from __future__ import annotations

import gc
import http.client
import tracemalloc
from collections import Counter
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

from sampan.server import cache
from sampan.server.app import Server
from sampan.server.fairness import fairness
from sampan.testing import ThreadedCluster
from tests.kit.trust import SLICE, size

EXAMPLES = size(1)
TIMEOUT_S = 10
# Warnings are bounded by their bytes, as upstream's: that may be more lines than Python takes.
http.client._MAXHEADERS = 1000  # type: ignore[attr-defined]
BODIES = ("POST", "PUT", "PATCH")
# Long answers by design: these end when the client goes.
STREAMS = ("watch", "follow")
REAL_NAMES = {"namespace": "default", "name": "fuzzed"}
"""Half of the requests go where an object may be, so that they get past the first refusal."""


ASKED_AGAIN = 120
"""Requests whose answers change nothing, of different operations, that are sent again and again."""
KEPT_BYTES = 500
"""What a request may leave behind. A leak is its body, its headers or its object: a thousand and
more; what comes and goes by itself (controllers, leases) is some tens each."""


@pytest.fixture(scope="module")
def server() -> Any:
    # What is kept on purpose is full at once, so that it does not look like growth.
    with pytest.MonkeyPatch.context() as bounds:
        bounds.setattr(cache, "RECENT_CHANGES", 16)
        bounds.setattr(fairness, "REMEMBERED", 16)
        with ThreadedCluster.start() as cluster:
            cluster.apply(CRD)
            yield cluster


@pytest.fixture(scope="module")
def harmless(server: ThreadedCluster) -> list[requests.PreparedRequest]:
    """What `test_no_operation_breaks_the_server` asked that changed nothing."""
    return []


CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}, scale: {specReplicasPath: .spec.n, statusReplicasPath: .status.n}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties:
                n: {type: integer, minimum: 0}
                any: {type: object, x-kubernetes-preserve-unknown-fields: true}
                either: {x-kubernetes-int-or-string: true}
                list:
                  type: array
                  x-kubernetes-list-type: map
                  x-kubernetes-list-map-keys: [name]
                  items:
                    type: object
                    required: [name]
                    properties: {name: {type: string}, value: {type: string, default: x}}
            status: {type: object, properties: {n: {type: integer}}}
"""


def documents(cluster: ThreadedCluster) -> list[str]:
    listed = _get(cluster, "/openapi/v3").json()["paths"]
    served = [name for name in listed if name.startswith(("api/", "apis/"))]
    # The custom resource first: a deletion of all definitions is among the operations.
    return sorted(served, key=lambda name: ("example.com" not in name, name))


def _get(cluster: ThreadedCluster, path: str) -> requests.Response:
    return requests.get(
        cluster.url + path, headers=_headers(cluster), verify=cluster.ca_file, timeout=TIMEOUT_S
    )


def _headers(cluster: ThreadedCluster) -> dict[str, str]:
    return {"Authorization": f"Bearer {cluster.token}"}


def test_no_operation_breaks_the_server(
    server: ThreadedCluster, harmless: list[requests.PreparedRequest]
) -> None:
    statuses: Counter[int] = Counter()
    for name in documents(server):
        answer = _get(server, f"/openapi/v3/{name}")
        if answer.status_code == 404:
            continue  # what was asked before has deleted it
        raw = answer.json()
        schema = schemathesis.openapi.from_dict(raw)
        for result in schema.get_all_operations():
            operation = result.ok()
            if "/watch/" not in operation.path:
                harmless += _try(server, operation, statuses)
    assert sum(statuses.values()) > 500 * EXAMPLES
    # Requests that get somewhere, and requests that do not: both must have been among them.
    assert statuses[200] + statuses[201] > 0
    assert statuses[422] > 0
    assert _get(server, "/readyz").text == "ok"
    assert len(server.list("namespaces")) >= 4


def _try(
    cluster: ThreadedCluster, operation: Any, statuses: Counter[int]
) -> list[requests.PreparedRequest]:
    """Asks, and gives the last request that changed nothing."""
    method = operation.method.upper()
    examples = EXAMPLES * 2 if method in BODIES else EXAMPLES
    count = 0
    harmless: list[requests.PreparedRequest] = []

    @seed(20_261_123 + SLICE)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        nonlocal count
        count += 1
        _aim(case, real=count % 2 == 0 and method != "DELETE")
        try:
            answer = case.call(
                base_url=cluster.url,
                headers=_headers(cluster),
                verify=str(cluster.ca_file),
                timeout=TIMEOUT_S,
            )
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError):
            return  # requests itself would not send it
        statuses[answer.status_code] += 1
        # A node that is not reached or a service without endpoints is the cluster's state.
        known = answer.status_code == 503 or "error dialing backend" in answer.text
        assert answer.status_code < 500 or known, (method, operation.path, answer.text[:500])
        if answer.status_code in (400, 404, 415, 422) or method == "GET":
            harmless[:] = [answer.request]

    run()
    return harmless


def _left_behind(cluster: ThreadedCluster, harmless: list[requests.PreparedRequest]) -> float:
    """How many bytes one request leaves, when all are sent a third time."""
    asked = harmless[:: len(harmless) // ASKED_AGAIN + 1]
    sizes = []
    with requests.Session() as session:
        tracemalloc.start()
        try:
            for _ in range(3):
                for request in asked:
                    session.send(request, timeout=TIMEOUT_S, verify=str(cluster.ca_file))
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    return (sizes[2] - sizes[1]) / len(asked)


def test_nothing_of_it_is_kept(
    server: ThreadedCluster,
    harmless: list[requests.PreparedRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(harmless) > ASKED_AGAIN
    left = _left_behind(server, harmless)
    assert left < KEPT_BYTES
    # A server that keeps what it was asked is noticed.
    kept: list[Any] = []
    honest = Server.begin

    def leak(self: Server, request: Any) -> Any:
        kept.append(request)
        return honest(self, request)

    monkeypatch.setattr(Server, "begin", leak)
    left = _left_behind(server, harmless)
    assert left > KEPT_BYTES


def _aim(case: Any, *, real: bool) -> None:
    if isinstance(case.query, dict):
        for name in STREAMS:
            case.query.pop(name, None)
    if not real:
        return
    for name, value in REAL_NAMES.items():
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = value
    if isinstance(case.body, dict):
        case.body["metadata"] = {"name": REAL_NAMES["name"]}
        for field in ("apiVersion", "kind"):
            case.body.pop(field, None)
