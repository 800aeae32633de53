"""Profiles: which plugins decide for pods of one scheduler name, and how much each weighs."""

from __future__ import annotations

from msgspec import Struct, field

from .demand import Demand
from .nodes import NodeState
from .plugins import FILTERS, RELATIONS, SCORES, Filter, Relation, Score

NAME = "default-scheduler"
REMEMBERED = 256
"""Shapes whose plugins are remembered."""
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
SYSTEM_DEFAULTS = ((HOSTNAME, 3), (ZONE, 5))
"""(topology key, maxSkew) of what spreads pods that ask for nothing: upstream's."""

Used = tuple[tuple[Filter, ...], tuple[Score, ...]]


class Profile(Struct, eq=False):
    """What one scheduler name stands for."""

    name: str = NAME
    filters: tuple[Filter, ...] = FILTERS
    scores: tuple[Score, ...] = SCORES
    relations: tuple[Relation, ...] = RELATIONS
    defaults: tuple[tuple[str, int], ...] = SYSTEM_DEFAULTS
    """Soft spread constraints, by the selectors of services and owners."""
    preempts: bool = True
    """Pods that fit nowhere may send others away."""
    own: bool = False
    """Has plugins of the user's: they may read all of a pod."""
    _used: dict[bytes, Used] = field(default_factory=dict)

    def used(self, demand: Demand) -> Used:
        """The filters and scores that can matter to such a pod: the others cost nothing."""
        found = self._used.get(demand.shape)
        if found is None:
            if len(self._used) >= REMEMBERED:
                self._used.clear()
            found = self._used[demand.shape] = (
                tuple(item for item in self.filters if item.concerns(demand)),
                tuple(item for item in self.scores if item.concerns(demand)),
            )
        return found

    def fits(self, demand: Demand, node: NodeState) -> bool:
        """By the node alone; other nodes may still speak against it."""
        return not any(item.reasons(demand, node) for item in self.used(demand)[0])

    def score(self, demand: Demand, node: NodeState) -> float:
        return sum(item.weight * item.points(demand, node) for item in self.used(demand)[1])


DEFAULT = Profile()
