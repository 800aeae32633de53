"""Which policies and bindings a write concerns: rules, names, selectors, parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from ...exchange import Write
from ..webhooks.review import name_of
from ..webhooks.selection import selects
from .params import Misconfigured, params_of
from .source import Binding, Candidate, Policy

if TYPE_CHECKING:
    from ...app import Server


class Invocation(NamedTuple):
    """A policy to be evaluated, with one of its bindings and one parameter; or why it cannot."""

    policy: Policy
    binding: Binding
    target: Descriptor
    param: Object | None
    problem: str = ""


def invocations(
    server: Server, write: Write, candidates: tuple[Candidate, ...]
) -> Iterator[Invocation]:
    """Everything to be evaluated about a write, in the order of the names of policies and
    bindings. Raises NotFound for a namespace that is not there."""
    new = write.obj if write.operation in ("CREATE", "UPDATE") else None
    name = name_of(write, new)
    for policy, asked, equals in candidates:
        target = policy.match.target(asked, equals, name)
        if target is None or not selects(server, write, policy.match):
            continue
        for binding in policy.bindings:
            if binding.match is not None and (
                binding.match.target(asked, equals, name) is None
                or not selects(server, write, binding.match)
            ):
                continue
            try:
                params = params_of(server, policy.spec, binding.spec, write.attributes.namespace)
            except Misconfigured as error:
                problem = f"failed to configure binding: {error}"
                yield Invocation(policy, binding, target, None, problem)
                continue
            for param in params:
                yield Invocation(policy, binding, target, param)
