"""How long a controller waits before it deletes a failed pod again (flowcontrol.Backoff).

A node that refuses a pod fails it at once: without a pause each refusal would bring the next.
Bound: one entry per workload and place (a node, an ordinal), forgotten with them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable

# Upstream's failedPodsBackoff, of daemon sets.
FIRST_S, CAP_S = 1.0, 900.0


class PodBackoff:
    """Of one workload: per place, when a failed pod was last deleted and how long to wait then."""

    def __init__(self, cap_s: float = CAP_S) -> None:
        self._cap_s = cap_s
        self._known: dict[Hashable, tuple[float, float]] = {}
        self._generation = 0

    def wait_s(self, place: Hashable, now_s: float) -> float:
        """0 if a failed pod may be deleted, else how long until then."""
        since_s, length_s = self._known.get(place, (0.0, 0.0))
        # A clock that was set back must not make it longer.
        return min(length_s, max(0.0, since_s + length_s - now_s))

    def deleted(self, place: Hashable, now_s: float) -> None:
        """Note that a failed pod was; the next waits twice as long, unless all was well since."""
        since_s, length_s = self._known.get(place, (0.0, 0.0))
        fresh = not length_s or now_s - since_s > 2 * self._cap_s
        self._known[place] = (now_s, FIRST_S if fresh else min(self._cap_s, 2 * length_s))

    def keep(self, places: Callable[[], Container[Hashable]], generation: int) -> None:
        """Forget the places that are gone, and everything with each change of the workload.
        `places` is only asked if there is anything to forget."""
        if generation != self._generation:
            self._known.clear()
            self._generation = generation
        if self._known:
            kept = places()
            self._known = {key: value for key, value in self._known.items() if key in kept}
