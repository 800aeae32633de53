"""componentstatuses: how the parts of the control plane are, for `kubectl get cs`.

Deprecated upstream and still asked for. Nothing is stored: an answer is made from what the parts
say when it is asked for (upstream's registry/core/componentstatus, which asks their /healthz).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api import errors
from sampan.api.errors import Object

from .answer import answer_computed
from .exchange import Attributes, Request, Response
from .health import store_trouble
from .routes import method_not_allowed
from .selection import selection_of

if TYPE_CHECKING:
    from .app import Server

PORTS = {"scheduler": 10259, "controller-manager": 10257}
"""Where upstream asks; for what is said of a part that is not there."""
STORE = "etcd-0"
AWAY = 'Get "https://127.0.0.1:{port}/healthz": dial tcp 127.0.0.1:{port}: connect: {why}'


def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    """get and list; all else is not allowed."""
    asked = attributes.resource
    assert asked is not None
    if attributes.verb not in asked.verbs or attributes.subresource:
        raise method_not_allowed()
    if attributes.verb == "get":
        if attributes.name not in (*PORTS, STORE):
            raise errors.not_found("", asked.plural, attributes.name)
        made = [_status(server, attributes.name)]
        return answer_computed(server, request, asked, made, single=True)
    selection = selection_of(request, asked)
    every = [_status(server, name) for name in (*PORTS, STORE)]
    made = [item for item in every if selection.matches(item)]
    return answer_computed(server, request, asked, made, single=False)


def _status(server: Server, name: str) -> Object:
    trouble = store_trouble(server) if name == STORE else _trouble(server, name)
    condition = {
        "type": "Healthy",
        "status": "False" if trouble else "True",
        "message": trouble or "ok",
    }
    return {
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "conditions": [condition],
    }


def _trouble(server: Server, name: str) -> str:
    part = server.parts.get(name)
    if part is not None:
        return part()
    return AWAY.format(port=PORTS[name], why="connection refused")
