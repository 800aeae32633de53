"""One file per controller; CONTROLLERS lists them. Level-based: the queue holds names.

A controller reads informers and writes through the client; `plan` is pure, reconcile is thin.
"""

from .deployment import DeploymentController
from .garbage import GarbageCollector
from .namespace import NamespaceController
from .replicaset import ReplicaSetController
from .rootca import RootCaController
from .runtime.controller import Controller
from .serviceaccount import ServiceAccountController

CONTROLLERS: tuple[type[Controller], ...] = (
    ServiceAccountController,
    RootCaController,
    NamespaceController,
    DeploymentController,
    ReplicaSetController,
    GarbageCollector,
)
