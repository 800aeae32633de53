"""Subresources and virtual resources that are more than a part of a stored object.

`SUBRESOURCES` maps (plural, subresource) to a handler, "*" standing for any plural; with an empty
subresource it is a resource that is only ever created. What is not listed (status, approval,
ephemeralcontainers, resize) is read and written as a part of its object by the verbs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from ..exchange import Attributes, Request, Response, Stream, Upgrade
from . import binding, eviction, finalize, log, proxy, reviews, scale, streams, token

if TYPE_CHECKING:
    from ..app import Server

Handler = Callable[
    ["Server", Request, Attributes], Coroutine[Any, Any, Response | Stream | Upgrade]
]

SUBRESOURCES: Mapping[tuple[str, str], Handler] = {
    ("*", "scale"): scale.handle,
    ("pods", "binding"): binding.handle_pod,
    ("pods", "eviction"): eviction.handle,
    ("pods", "log"): log.handle,
    ("pods", "exec"): streams.exec_handle,
    ("pods", "attach"): streams.attach_handle,
    ("pods", "portforward"): streams.portforward_handle,
    ("pods", "proxy"): proxy.handle,
    ("services", "proxy"): proxy.handle,
    ("nodes", "proxy"): proxy.handle,
    ("namespaces", "finalize"): finalize.handle,
    ("serviceaccounts", "token"): token.handle,
    ("bindings", ""): binding.handle_collection,
    ("tokenreviews", ""): reviews.token_review,
    ("subjectaccessreviews", ""): reviews.access_review,
    ("localsubjectaccessreviews", ""): reviews.access_review,
    ("selfsubjectaccessreviews", ""): reviews.self_access_review,
    ("selfsubjectrulesreviews", ""): reviews.self_rules_review,
    ("selfsubjectreviews", ""): reviews.self_review,
}
