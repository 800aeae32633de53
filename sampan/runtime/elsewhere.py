"""The cluster's registry as other nodes have it: of the same names, with its store elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec import Struct

from .mirrors import Endpoint


class Elsewhere(Struct, frozen=True):
    """Asked over the network for every name it goes by."""

    domain: str
    domains: Collection[str]
    endpoints: Sequence[Endpoint]


def elsewhere(
    domains: Sequence[str], address: str, ca: Path, client: tuple[Path, Path]
) -> Elsewhere:
    """`domains` as the registry's own node has them, `address` is HOST:PORT; `client` is the
    certificate and key of this node, which may read everything there."""
    endpoint = Endpoint(url=f"https://{address}/v2", authorities=(ca,), client=(client,))
    return Elsewhere(domains[0], domains, (endpoint,))
