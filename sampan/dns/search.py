"""The search list walked here instead of by the client, question by question. Pure.

A pod that looks for "example.com" asks for example.com.NAMESPACE.svc.DOMAIN first, as its search
list says, and gets a "no such name" for each of its four or more tries before the last. Its first
question tells all we need: whose it is (by its address) and what was meant. So the answer to it is
the first name of the list that exists, behind a CNAME. CoreDNS has this as its plugin autopath.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .message import Kind

KINDS = frozenset({Kind.A, Kind.AAAA})
"""What clients look for by a search list."""


def candidates(name: str, namespace: str, domain: str, host: Sequence[str]) -> list[str]:
    """The names that a pod of `namespace` tries after `name`, in its order; none unless `name` is
    its first try. `host` are the search domains of the node, which pods have too, and the pod's
    own, which come last."""
    first = f".{namespace}.svc.{domain}"
    meant = name.removesuffix(first)
    if not namespace or meant == name or not meant:
        return []
    # With five dots (ndots) a name is tried as it is first, so this was meant as it stands.
    if meant.count(".") >= 5:
        return []
    return [f"{meant}.{end}" for end in (f"svc.{domain}", domain, *host)] + [meant]


def search_of(text: str) -> tuple[str, ...]:
    """The search list of a resolv.conf(5): the last that is named counts."""
    found: Iterable[str] = ()
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in ("search", "domain"):
            found = words[1:]
    return tuple(item.rstrip(".").lower() for item in found if item != ".")
