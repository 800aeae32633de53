"""Address families of a service, of those the cluster has (upstream's initIPFamilyFields)."""

from __future__ import annotations

from collections.abc import Sequence

from ... import fields
from ...errors import Cause, Object
from ..addresses import parse_ip
from .servicespec import check_addresses

HEADLESS = "None"
POLICY = "spec.ipFamilyPolicy"
PAIRS = (("clusterIPs", "cluster IP", "cluster IPs"), ("ipFamilies", "IP family", "IP families"))
"""Lists that have two items in a service of both families, and what errors call them."""


def keeps_both(spec: Object, before: Object) -> bool:
    """Does a service that prefers both families stay as it is? It follows no change of the cluster
    before it is changed itself (isMatchingPreferDualStackClusterIPFields)."""
    return (
        spec.get("ipFamilyPolicy") == before.get("ipFamilyPolicy") == "PreferDualStack"
        and (spec.get("clusterIPs") or []) == (before.get("clusterIPs") or [])
        and (spec.get("ipFamilies") or []) == (before.get("ipFamilies") or [])
    )


def choose_families(spec: Object, before: Object, known: Sequence[str]) -> list[Cause]:
    """Fill in ipFamilyPolicy and ipFamilies. `before` is empty on create; `known` are the cluster's
    families, the default one first."""
    selectorless = spec.get("clusterIP") == HEADLESS and not spec.get("selector")
    if spec.get("ipFamilyPolicy") is None:
        default = "RequireDualStack" if selectorless else "SingleStack"
        spec["ipFamilyPolicy"] = before.get("ipFamilyPolicy") or default
    out: list[Cause] = []
    check_addresses(spec, out)
    if out:
        return out
    _check_policy(spec, before, out)
    families = _infer(spec, known, out)
    if out:
        return out
    policy = spec["ipFamilyPolicy"]
    if selectorless:
        families = families or [known[0]]
        if policy != "SingleStack":
            # Its endpoints are not the cluster's: they may have both.
            families = _with_other(families)
        spec["ipFamilies"] = families
        return out
    if policy == "RequireDualStack" and len(known) < 2:
        why = "this cluster is not configured for dual-stack services"
        out.append(fields.invalid(POLICY, policy, why))
    for position, item in enumerate(families):
        if item not in known:
            where = f"spec.ipFamilies[{position}]"
            out.append(fields.invalid(where, item, "not configured on this cluster"))
    families = families or [known[0]]
    if policy != "SingleStack" and len(known) == 2:
        families = _with_other(families)
    spec["ipFamilies"] = families
    return out


def _with_other(families: list[str]) -> list[str]:
    if len(families) > 1:
        return families
    return [*families, "IPv6" if families[0] == "IPv4" else "IPv4"]


def _check_policy(spec: Object, before: Object, out: list[Cause]) -> None:
    policy = spec["ipFamilyPolicy"]
    for name, one, many in PAIRS:
        now, was = spec.get(name) or [], before.get(name) or []
        if policy != "SingleStack":
            if len(now) == 1 and len(was) == 2 and now[0] == was[0]:
                why = f"must be 'SingleStack' to release the secondary {one}"
                out.append(fields.invalid(POLICY, policy, why))
        elif len(now) > 1 and now == was:
            # Nothing else was changed: this is a clear wish to give up the second one.
            spec[name] = now[:1]
        elif len(now) == 2:
            why = (
                f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {many} are "
                "specified"
            )
            out.append(fields.invalid(POLICY, policy, why))


def _infer(spec: Object, known: Sequence[str], out: list[Cause]) -> list[str]:
    """The families asked for, or those of the addresses asked for."""
    families: list[str] = list(spec.get("ipFamilies") or ())
    for position, address in enumerate(spec.get("clusterIPs") or ()):
        if address == HEADLESS or position < len(families):
            continue
        found = f"IPv{getattr(parse_ip(address), 'version', 4)}"
        if found in known:
            families.append(found)
        else:
            why = f"{found} is not configured on this cluster"
            out.append(fields.invalid(f"spec.clusterIPs[{position}]", spec["clusterIPs"], why))
    return families
