"""namespaces/finalize: the namespace controller says that a namespace is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Object

from ..answer import answer_written
from ..exchange import Attributes, Request, Response
from ..options import write_options
from ..routes import method_not_allowed
from ..writing import Context, update
from .reading import NAMESPACE, read_body

if TYPE_CHECKING:
    from ..app import Server


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    """PUT namespaces/NAME/finalize: only spec.finalizers is taken from the body. A namespace being
    deleted goes when none is left."""
    resource = attributes.resource
    if request.method != "PUT" or resource is None:
        raise method_not_allowed()
    context = Context(server, attributes, resource, write_options(request, "UpdateOptions"))
    body = read_body(request, NAMESPACE, context)

    def compute(old: Object, private: Object) -> Object:
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version:
            private["metadata"]["resourceVersion"] = version
        else:
            private["metadata"].pop("resourceVersion", None)
        finalizers = (body.get("spec") or {}).get("finalizers") or []
        private["spec"] = {**(private.get("spec") or {}), "finalizers": finalizers}
        if not finalizers:
            del private["spec"]["finalizers"]
        return private

    written = await update(context, attributes.name, compute)
    return answer_written(context, request, written)
