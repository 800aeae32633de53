"""matchConditions of webhooks: CEL over the request, compiled at the first call.

One condition that is false decides; else one that fails refuses the write (failurePolicy Fail) or
leaves the webhook out (Ignore). Bound: the conditions of a webhook share one evaluation budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.api.errors import Object, forbidden

from ...exchange import Write
from .source import Hook

if TYPE_CHECKING:
    from ...app import Server


def meets_conditions(server: Server, hook: Hook, request: Object, write: Write) -> bool:
    """Are all conditions true? Raises Forbidden when one cannot be evaluated and the policy is
    to fail."""
    # Imported here: CEL is loaded with the first condition.
    from sampan.api.cel import MATCH_CONDITIONS_BUDGET, Budget

    from ..policies.inputs import Failed, meets, values_of

    metrics = server.admission.hooks.metrics
    values = values_of(server, write, request)
    try:
        if meets(_programs(hook), values, Budget(MATCH_CONDITIONS_BUDGET)):
            return True
    except Failed as error:
        metrics.condition_error(hook.name, hook.kind, write.operation)
        if hook.ignore:
            return False
        target = write.attributes.resource
        assert target is not None
        raise forbidden(target.group, target.plural, write.attributes.name, str(error)) from None
    metrics.exclude(hook.name, hook.kind, write.operation)
    return False


def _programs(hook: Hook) -> Any:
    """The compiled conditions (or why there is none), kept on the webhook."""
    if hook.matcher is None:
        from sampan.api.cel.admission import environment

        from ..policies.programs import compiled

        base = environment(params=False, authorizer=True)
        hook.matcher = tuple(compiled(item["expression"], base) for item in hook.conditions)
    return hook.matcher
