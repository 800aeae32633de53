"""NetworkPolicy (networking.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...selectors import validate_label_selector
from ..addresses import check_cidr
from ..doubts import doubt_range
from ..formats import BAD_PORT, check_port, port_name_problems
from ..printing import AGE, NAME, age, name, selector_text

TYPES = ("Ingress", "Egress")
PROTOCOLS = ("TCP", "UDP", "SCTP")


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for direction in ("ingress", "egress"):
        for rule in spec.get(direction) or ():
            for port in rule.get("ports") or ():
                if port.get("protocol") is None:
                    port["protocol"] = "TCP"


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    out += validate_label_selector(spec.get("podSelector"), "spec.podSelector")
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for position, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{position}]"
            for index, port in enumerate(rule.get("ports") or ()):
                _check_port(port, f"{path}.ports[{index}]", out)
            for index, peer in enumerate(rule.get(peers) or ()):
                _check_peer(peer, f"{path}.{peers}[{index}]", out)
    kinds = spec.get("policyTypes") or []
    if len(kinds) > len(TYPES):
        why = "may not specify more than two policyTypes"
        out.append(fields.invalid("spec.policyTypes", kinds, why))
        return out
    for position, kind in enumerate(kinds):
        if kind not in TYPES:
            out.append(fields.not_supported(f"spec.policyTypes[{position}]", kind, TYPES))
    return out


def _check_port(port: Object, path: str, out: list[Cause]) -> None:
    protocol = port.get("protocol")
    if protocol is not None and protocol not in PROTOCOLS:
        out.append(fields.not_supported(f"{path}.protocol", protocol, PROTOCOLS))
    number, end = port.get("port"), port.get("endPort")
    if number is None or isinstance(number, str):
        if end is not None:
            state = "non-numeric" if number is not None else "not specified"
            why = f"may not be specified when `port` is {state}"
            out.append(fields.invalid(f"{path}.endPort", end, why))
        for why in port_name_problems(number) if number is not None else ():
            out.append(fields.invalid(f"{path}.port", number, why))
        return
    check_port(number, f"{path}.port", out)
    if end is not None:
        if end < number:
            why = "must be greater than or equal to `port`"
            # The value upstream shows is the port's.
            out.append(fields.invalid(f"{path}.endPort", number, why))
        if not 1 <= end <= 65535:
            out.append(fields.invalid(f"{path}.endPort", end, BAD_PORT))


def _check_peer(peer: Object, path: str, out: list[Cause]) -> None:
    count = 0
    for field in ("podSelector", "namespaceSelector"):
        if peer.get(field) is not None:
            count += 1
            out += validate_label_selector(peer[field], f"{path}.{field}")
    block = peer.get("ipBlock")
    if block is not None:
        if count:
            why = "may not specify both ipBlock and another peer"
            out.append(fields.forbidden(path, why))
        count += 1
        _check_block(block, f"{path}.ipBlock", out)
    if not count:
        out.append(fields.required(path, "must specify a peer"))


def _check_block(block: Object, path: str, out: list[Cause]) -> None:
    text = block.get("cidr") or ""
    if not text:
        out.append(fields.required(f"{path}.cidr"))
        return
    whole = check_cidr(text, f"{path}.cidr", out)
    for position, part in enumerate(block.get("except") or () if whole is not None else ()):
        where = f"{path}.except[{position}]"
        hole = check_cidr(part, where, out)
        if hole is None or whole is None:
            continue
        inside = hole.version == whole.version and hole.network_address in whole
        if not inside or whole.prefixlen >= hole.prefixlen:
            out.append(fields.invalid(where, part, "must be a strict subset of `cidr`"))


def warnings(obj: Object, old: Object | None) -> list[str]:
    out: list[str] = []
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for position, rule in enumerate(obj["spec"].get(direction) or ()):
            for index, peer in enumerate(rule.get(peers) or ()):
                block = peer.get("ipBlock") or {}
                path = f"spec.{direction}[{position}].{peers}[{index}].ipBlock"
                out += doubt_range(block.get("cidr"), f"{path}.cidr")
                for place, part in enumerate(block.get("except") or ()):
                    out += doubt_range(part, f"{path}.except[{place}]")
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    selector = (obj.get("spec") or {}).get("podSelector")
    return [name(obj), selector_text(selector), age(obj, now_s)]


KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="NetworkPolicy",
    short_names=("netpol",),
    storage="networkpolicies",
    generation=True,
    default=default,
    validate=validate,
    warnings=warnings,
    columns=(NAME, Column("Pod-Selector", "string", "The pods it is about."), AGE),
    cells=cells,
)
