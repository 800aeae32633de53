"""The authorisers in the administrator's order: the first that allows or denies decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.api.errors import aggregate

from ..series import Series
from .configuration import ABAC, ALWAYS_ALLOW, ALWAYS_DENY, read
from .questions import Asked, Said, Verdict

if TYPE_CHECKING:
    from ..app import Server
    from .webhook import AccessWebhook

Decide = Callable[[Asked], Said]


class Chain:
    def __init__(self, steps: Sequence[Decide], webhooks: Sequence[AccessWebhook]) -> None:
        self._steps = tuple(steps)
        self.webhooks = tuple(webhooks)

    def decide(self, asked: Asked) -> Said:
        """What all say together: reasons and errors of those without an opinion are added up.
        Raises Undecided."""
        reasons: list[str] = []
        errors: list[str] = []
        for step in self._steps:
            said = step(asked)
            if said.error:
                errors.append(said.error)
            if said.verdict is not Verdict.NO_OPINION:
                return said._replace(error="" if said.allowed else aggregate(errors))
            if said.reason:
                reasons.append(said.reason)
        return Said(Verdict.NO_OPINION, "\n".join(reasons), aggregate(errors))

    def close(self) -> None:
        for webhook in self.webhooks:
            webhook.close()


def load(server: Server, path: Path, own: Mapping[str, Decide], series: Series) -> Chain | None:
    """The chain that a file describes, of our own authorisers (by type) and webhooks, which count
    into `series`; None without the file. Raises ValueError for one that is no good."""
    steps = read(path)
    if steps is None:
        return None
    webhooks: list[AccessWebhook] = []
    known: Mapping[str, Decide] = {ALWAYS_ALLOW: _allow, ALWAYS_DENY: _deny, **own}
    decide: list[Decide] = []
    for step in steps:
        if step.type == ABAC:
            from .abac import FILE, Policies

            decide.append(Policies(path.with_name(FILE)).decide)
            continue
        if step.webhook is None:
            decide.append(known[step.type])
            continue
        # Imported only where somebody else is asked.
        from .webhook import AccessWebhook

        webhooks.append(AccessWebhook(server, step.name, step.webhook, series))
        decide.append(webhooks[-1].decide)
    return Chain(decide, webhooks)


def _allow(asked: Asked) -> Said:
    return Said(Verdict.ALLOW)


def _deny(asked: Asked) -> Said:
    return Said(Verdict.NO_OPINION, "Everything is forbidden.")
