"""One file per controller; CONTROLLERS lists them. Level-based: the queue holds names.

A controller reads informers and writes through the client; `plan` is pure, reconcile is thin.
"""

from .deployment import DeploymentController
from .replicaset import ReplicaSetController
from .runtime.controller import Controller

CONTROLLERS: tuple[type[Controller], ...] = (
    DeploymentController,
    ReplicaSetController,
)
