"""How long to wait before trying again."""

from __future__ import annotations

import random

from msgspec import Struct


class Backoff(Struct):
    """Doubling delays from `initial_s` to `cap_s`, each with up to `jitter` of itself added."""

    initial_s: float = 0.01
    cap_s: float = 10.0
    factor: float = 2.0
    jitter: float = 0.1
    failures: int = 0

    def next_s(self) -> float:
        """The delay after one more failure."""
        # The exponent is capped so that a long outage cannot overflow a float.
        delay = min(self.cap_s, self.initial_s * self.factor ** min(self.failures, 64))
        self.failures += 1
        return delay * (1 + random.random() * self.jitter)

    def reset(self) -> None:
        self.failures = 0
