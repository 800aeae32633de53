"""matchConditions of webhooks: CEL over the request, compiled at the first call.

One condition that is false decides; else one that fails refuses the write (failurePolicy Fail) or
leaves the webhook out (Ignore). Bound: the conditions of a webhook share one evaluation budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.api.errors import Object, forbidden

from ...exchange import Write
from .metrics import condition
from .source import Hook

if TYPE_CHECKING:
    from ...app import Server


async def meets_conditions(server: Server, hook: Hook, request: Object, write: Write) -> bool:
    """Are all conditions true? Raises Forbidden when one cannot be evaluated and the policy is
    to fail."""
    # Imported here: CEL is loaded with the first condition.
    from ..policies.inputs import Failed, meets_timed, values_of

    what = condition(hook.name, "webhook", hook.kind, write.operation)
    values = values_of(server, write, request)
    try:
        return await meets_timed(server, what, _programs(server, hook), values)
    except Failed as error:
        if hook.ignore:
            return False
        target = write.attributes.resource
        assert target is not None
        raise forbidden(target.group, target.plural, write.attributes.name, str(error)) from None


def _programs(server: Server, hook: Hook) -> Any:
    """The compiled conditions (or why there is none), kept on the webhook."""
    if hook.matcher is None:
        from sampan.api.cel.admission import environment

        from ..policies.programs import compiled

        base = environment(params=False, authorizer=True)
        observe = server.admission.metrics.compilations.add
        hook.matcher = tuple(
            compiled(item["expression"], base, observe=observe) for item in hook.conditions
        )
    return hook.matcher
