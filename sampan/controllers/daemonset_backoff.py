"""How long a DaemonSet waits before it deletes a failed pod again (flowcontrol.Backoff).

A node that refuses a pod fails it at once: without a pause each refusal would bring the next.
Bound: one entry per set and node, forgotten with them.
"""

from __future__ import annotations

from collections.abc import Container

# Upstream's failedPodsBackoff.
FIRST_S, CAP_S = 1.0, 900.0


class Backoff:
    """Of one DaemonSet: per node, when a failed pod was last deleted and how long to wait then."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}
        self._generation = 0

    def wait_s(self, node: str, now_s: float) -> float:
        """0 if a failed pod may be deleted, else how long until then."""
        since_s, length_s = self._known.get(node, (0.0, 0.0))
        return max(0.0, since_s + length_s - now_s)

    def deleted(self, node: str, now_s: float) -> None:
        """Note that a failed pod was; the next waits twice as long, unless all was well since."""
        since_s, length_s = self._known.get(node, (0.0, 0.0))
        fresh = not length_s or now_s - since_s > 2 * CAP_S
        self._known[node] = (now_s, FIRST_S if fresh else min(CAP_S, 2 * length_s))

    def keep(self, nodes: Container[str], generation: int) -> None:
        """Forget the nodes that are gone, and everything with each change of the set."""
        if generation != self._generation:
            self._known.clear()
            self._generation = generation
        for node in [node for node in self._known if node not in nodes]:
            del self._known[node]
