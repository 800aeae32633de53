"""ReplicationControllers: ReplicaSets of the first API, whose selector is a plain map of labels.

As upstream (pkg/controller/replication), there is one implementation, and a view between.
"""

from __future__ import annotations

from sampan.api.errors import Object

from .replicaset import ReplicaSetController


class ReplicationControllerController(ReplicaSetController):
    """See the module."""

    name = "replicationmanager"
    kind = ("replicationcontrollers", "")
    component = "replication-controller"

    def as_set(self, found: Object) -> Object:
        selector = {"matchLabels": found["spec"].get("selector") or {}}
        return {**found, "spec": {**found["spec"], "selector": selector}}

    def own_status(self, status: Object) -> Object:
        # The field came later, and ReplicationControllers never got it.
        return {key: value for key, value in status.items() if key != "terminatingReplicas"}
