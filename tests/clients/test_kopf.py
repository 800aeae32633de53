"""kopf with a real operator: handlers, retries, timers, daemons, finalizers, admission webhooks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.clients.cluster import Cluster, until
from tests.clients.kinds import GROUP, boat, definition

PROGRAM = Path(__file__).parent / "programs/boats.py"
PLURAL = "kopfboats"


class Boats:
    """The boats of one namespace."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.objects = client.CustomObjectsApi(api)
        self.where = (GROUP, "v1", namespace, PLURAL)

    def create(self, name: str, **spec: Any) -> Any:
        body = boat(name, PLURAL)
        body["spec"] |= spec
        return self.objects.create_namespaced_custom_object(*self.where, body)

    def get(self, name: str) -> Any:
        try:
            return self.objects.get_namespaced_custom_object(*self.where, name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.get(name).get("status") or {})

    def patch(self, name: str, **spec: Any) -> Any:
        return self.objects.patch_namespaced_custom_object(*self.where, name, {"spec": spec})

    def delete(self, name: str) -> None:
        self.objects.delete_namespaced_custom_object(*self.where, name)


@pytest.fixture
def api(kubeconfig: Path) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(kubeconfig)) as made:
        yield made


@pytest.fixture
def boats(
    api: client.ApiClient, cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path
) -> Iterator[Boats]:
    """The definition, and the operator at work on it."""
    extensions = client.ApiextensionsV1Api(api)
    made = extensions.create_custom_resource_definition(definition(PLURAL))
    log = tmp_path / "operator.log"
    command = [sys.executable, "-W", "ignore", "-m", "kopf", "run", str(PROGRAM), "-n", namespace]
    environment = cluster.environment | {"KUBECONFIG": str(kubeconfig)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            hooks = client.AdmissionregistrationV1Api(api)
            until(
                lambda: any(
                    item.webhooks and item.webhooks[0].client_config.ca_bundle
                    for item in hooks.list_validating_webhook_configuration().items
                ),
                f"the operator's webhooks; see {log}",
            )
            yield Boats(api, namespace)
        finally:
            process.terminate()
            process.wait(20)
            print(log.read_text())
            extensions.delete_custom_resource_definition(made.metadata.name)
            for kind in ("validating", "mutating"):
                delete = getattr(hooks, f"delete_collection_{kind}_webhook_configuration")
                delete()


def test_an_operator(api: client.ApiClient, boats: Boats, namespace: str) -> None:
    # Its mutating webhook fills in the port, its validating one refuses.
    assert boats.create("sam")["spec"] == {"crew": 2, "seats": 4, "port": "home"}
    with pytest.raises(ApiException) as refused:
        boats.create("big", crew=11)
    assert refused.value.status == 400
    assert "the crew is too large" in refused.value.body
    # Handlers, a retry, and a timer leave their mark in the status.
    until(lambda: boats.status("sam").get("crew") == 2)
    status = until(lambda: (s := boats.status("sam")).get("ticks") == 2 and "retried" in s and s)
    assert status["launch"] == {"launched": "sam"}
    assert status["retried"] == "after 1"
    assert boats.get("sam")["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
    # A change of the field calls its handler, which posts an event.
    boats.patch("sam", crew=3)
    until(lambda: boats.status("sam")["crew"] == 3)
    core = client.CoreV1Api(api)
    until(
        lambda: (
            "from 2 to 3"
            in [event.message for event in core.list_namespaced_event(namespace).items]
        )
    )
    # Deletion waits for the handler, then for nothing.
    boats.delete("sam")
    until(lambda: boats.get("sam") is None)
    notes = {item.metadata.name for item in core.list_namespaced_config_map(namespace).items}
    assert notes >= {"sam-sails", "sam-sunk"}
