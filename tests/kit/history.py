"""What clients did and were told, and whether the server's history agrees.

Each write is an interval of real time and, when it was acknowledged, a revision. A write whose
answer never came may have happened or not; the state afterwards says.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Write:
    """One attempt to set `name` to `value`."""

    name: str
    value: int
    began: float
    ended: float = 0.0
    revision: int = 0
    """0: no answer."""


@dataclass(slots=True)
class History:
    writes: list[Write] = field(default_factory=list)

    def acknowledged(self) -> list[Write]:
        return [write for write in self.writes if write.revision]

    def problems(self, stored: dict[str, tuple[int, int]]) -> list[str]:
        """`stored`: name -> (value, revision) as the server has it now."""
        return self._lost(stored) + self._order()

    def _lost(self, stored: dict[str, tuple[int, int]]) -> list[str]:
        """Each name must hold its last acknowledged value, or that of a later unanswered write."""
        found = []
        allowed: dict[str, set[int]] = {}
        for write in self.writes:
            if write.revision:
                allowed[write.name] = {write.value}
            else:
                allowed.setdefault(write.name, {-1}).add(write.value)
        for name, values in allowed.items():
            value, _ = stored.get(name, (-1, 0))
            if value not in values:
                found.append(f"{name} holds {value}, acknowledged was one of {sorted(values)}")
        return found

    def _order(self) -> list[str]:
        """A write that began after another was answered has a greater revision."""
        found = []
        answered = sorted(self.acknowledged(), key=lambda write: write.ended)
        begun = sorted(self.acknowledged(), key=lambda write: write.began)
        highest, at = 0, 0
        for write in begun:
            while at < len(answered) and answered[at].ended < write.began:
                highest = max(highest, answered[at].revision)
                at += 1
            if write.revision <= highest:
                found.append(f"{write.name}={write.value}: {write.revision} after {highest}")
        revisions = [write.revision for write in self.acknowledged()]
        if len(revisions) != len(set(revisions)):
            found.append("a revision was given twice")
        return found
