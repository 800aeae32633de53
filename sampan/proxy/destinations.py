"""The chains that rewrite a destination to one of a service's endpoints. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from msgspec import Struct, field

from .endpoints import Endpoint
from .families import IPV4, Family

# The kernel takes chain names of up to 127 characters; the longest service name needs more.
_NAME_CHARACTERS = 120
# Up to this many endpoints get a rule each; more share a map. A map would be quicker to evaluate
# from some ten on, but the kernel takes time for a new one that grows with the number of maps in
# the table: ten thousand services with three endpoints each took 48 s to load, and now 2.
RULE_EACH = 8


def chain_name(prefix: str, suffix: str) -> str:
    """Readable where it fits; else cut, with a digest that keeps it unique."""
    name = prefix + suffix
    if len(name) <= _NAME_CHARACTERS:
        return name
    return f"{name[: _NAME_CHARACTERS - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def destination_rules(
    protocol: str, endpoints: Sequence[Endpoint], family: Family = IPV4
) -> tuple[str, ...]:
    """Rewrite the destination to one of the endpoints. Chance picks it, as upstream."""
    start = f"meta l4proto {protocol}"
    to = f"dnat {family.word} to"
    count = len(endpoints)
    if count > RULE_EACH:
        table = ", ".join(f"{n} : {item.ip} . {item.port}" for n, item in enumerate(endpoints))
        return (f"{start} {to} numgen random mod {count} map {{ {table} }}",)
    # A fresh draw among those that are left.
    return tuple(
        f"{start} {_draw(count - number)}{to} {family.destination(item.ip, item.port)}"
        for number, item in enumerate(endpoints)
    )


def _draw(left: int) -> str:
    return f"numgen random mod {left} == 0 " if left > 1 else ""


class Sticky(Struct):
    """Chains for sessionAffinity ClientIP: a set of clients per endpoint, each of which stays until
    it has begun no connection for `timeout_s`. Sets of endpoints that stay are not touched when
    others come and go, so neither are their clients."""

    timeout_s: int
    family: Family = IPV4
    chains: dict[str, Sequence[str]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)

    def rules(self, suffix: str, protocol: str, endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
        """Clients that were here go where they were, others by chance."""
        known, drawn = [], []
        sender = f"{self.family.word} saddr"
        for number, item in enumerate(endpoints):
            tail = f"{suffix}/{item.ip}/{item.port}"
            chain, clients = chain_name("to-", tail), chain_name("of-", f"{tail}/{self.timeout_s}")
            self.sets[clients] = (
                f"{{ type {self.family.kind}; flags dynamic, timeout; timeout {self.timeout_s}s; }}"
            )
            self.chains[chain] = (
                f"update @{clients} {{ {sender} }}",
                *destination_rules(protocol, [item], self.family),
            )
            known.append(f"{sender} @{clients} goto {chain}")
            drawn.append(f"{_draw(len(endpoints) - number)}goto {chain}")
        return (*known, *drawn)
