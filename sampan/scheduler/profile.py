"""Profiles: which plugins decide for pods of one scheduler name, and how much each weighs."""

from __future__ import annotations

from msgspec import Struct, field

from sampan.api.selectors import from_label_selector

from .demand import Demand
from .nodes import NodeState
from .plugins import FILTERS, RELATIONS, SCORES, Filter, Relation, Score
from .relations import Constraint

NAME = "default-scheduler"
REMEMBERED = 256
"""Shapes whose plugins are remembered."""
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
NOBODY = from_label_selector(None)
SYSTEM_DEFAULTS = (Constraint(HOSTNAME, 3, NOBODY), Constraint(ZONE, 5, NOBODY))
"""What spreads pods that ask for nothing, softly: upstream's."""

Used = tuple[tuple[Filter, ...], tuple[Score, ...]]


class Profile(Struct, eq=False):
    """What one scheduler name stands for."""

    name: str = NAME
    filters: tuple[Filter, ...] = FILTERS
    scores: tuple[Score, ...] = SCORES
    relations: tuple[Relation, ...] = RELATIONS
    defaults: tuple[Constraint, ...] = SYSTEM_DEFAULTS
    """Soft spread constraints, by the selectors of services and owners."""
    hard_defaults: tuple[Constraint, ...] = ()
    """Those that forbid."""
    preempts: bool = True
    """Pods that fit nowhere may send others away."""
    shortlist: tuple[int, int] = (100, 10)
    """Enough candidates of preemption: so many, or this percentage of the nodes if more."""
    required_weight: int = 1
    """What a placed pod's required affinity is worth to the pods it asks for."""
    ignores_preferences: bool = False
    """Pods that prefer no neighbours are not told whom others prefer."""
    bind_s: float = 600.0
    """How long claims may take to be bound."""
    ready_s: float = 600.0
    """How long devices may take to be ready."""
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
