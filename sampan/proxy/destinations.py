"""The chains that rewrite a destination to one of a service's endpoints. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from .endpoints import Endpoint

# The kernel takes chain names of up to 127 characters; the longest service name needs more.
_NAME_CHARACTERS = 120
# Up to this many endpoints get a rule each; more share a map. A map would be quicker to evaluate
# from some ten on, but the kernel takes time for a new one that grows with the number of maps in
# the table: ten thousand services with three endpoints each took 48 s to load, and now 2.
_RULE_EACH = 8


def chain_name(prefix: str, suffix: str) -> str:
    """Readable where it fits; else cut, with a digest that keeps it unique."""
    name = prefix + suffix
    if len(name) <= _NAME_CHARACTERS:
        return name
    return f"{name[: _NAME_CHARACTERS - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def destination_rules(protocol: str, endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    """Rewrite the destination to one of the endpoints. Chance picks it, as upstream."""
    start = f"meta l4proto {protocol}"
    count = len(endpoints)
    if count > _RULE_EACH:
        table = ", ".join(f"{n} : {item.ip} . {item.port}" for n, item in enumerate(endpoints))
        return (f"{start} dnat ip to numgen random mod {count} map {{ {table} }}",)
    # A fresh draw among those that are left.
    return tuple(
        f"{start} {_draw(count - number)}dnat ip to {item.ip}:{item.port}"
        for number, item in enumerate(endpoints)
    )


def _draw(left: int) -> str:
    return f"numgen random mod {left} == 0 " if left > 1 else ""


@dataclass(slots=True)
class Sticky:
    """Chains for sessionAffinity ClientIP: a set of clients per endpoint, each of which stays until
    it has begun no connection for `timeout_s`. Sets of endpoints that stay are not touched when
    others come and go, so neither are their clients."""

    timeout_s: int
    chains: dict[str, Sequence[str]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)

    def rules(self, suffix: str, protocol: str, endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
        """Clients that were here go where they were, others by chance."""
        known, drawn = [], []
        for number, item in enumerate(endpoints):
            tail = f"{suffix}/{item.ip}/{item.port}"
            chain, clients = chain_name("to-", tail), chain_name("of-", f"{tail}/{self.timeout_s}")
            self.sets[clients] = (
                f"{{ type ipv4_addr; flags dynamic, timeout; timeout {self.timeout_s}s; }}"
            )
            self.chains[chain] = (
                f"update @{clients} {{ ip saddr }}",
                *destination_rules(protocol, [item]),
            )
            known.append(f"ip saddr @{clients} goto {chain}")
            drawn.append(f"{_draw(len(endpoints) - number)}goto {chain}")
        return (*known, *drawn)
