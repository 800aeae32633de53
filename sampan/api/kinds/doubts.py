"""Warnings that several kinds share, in upstream's words (pkg/api/node, util/validation).

A warning goes with a valid object: each function returns the texts, none if there is no doubt.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_interface
from typing import Any

from sampan.wire.quantity import QuantityError, parse

from ..errors import Object
from ..fields import quote
from ..names import label_problems, label_value_problems
from .addresses import parse_ip
from .core.claimspec import CLASS_ANNOTATION

NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region":
        'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone":
        'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type":
        'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods":
        "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}  # fmt: skip
"""Labels of nodes that are deprecated, and what to use instead."""
USE_CLASS_FIELD = 'deprecated since v1.8; use "storageClassName" attribute instead'


def doubt_term(term: Object, path: str, *, values: bool) -> list[str]:
    """Of a node selector term. `values`: are they checked here, for want of validation?"""
    out = []
    for position, item in enumerate(term.get("matchExpressions") or ()):
        where, key = f"{path}.matchExpressions[{position}]", item.get("key") or ""
        if key in NODE_LABELS:
            out.append(f"{where}.key: {key} is {NODE_LABELS[key]}")
        for place, value in enumerate(item.get("values") or () if values else ()):
            for why in label_value_problems(value):
                out.append(f"{where}.values[{place}]: {value} is invalid, {why}")
    return out


def doubt_selector(selector: Object | None, path: str) -> list[str]:
    """Of a label selector that selects nodes."""
    selector = selector or {}
    out = doubt_term(selector, path, values=False)
    for key in selector.get("matchLabels") or ():
        if key in NODE_LABELS:
            out.append(f"{path}.matchLabels.{key}: {NODE_LABELS[key]}")
    return out


def doubt_ip(value: Any, path: str) -> list[str]:
    """Of an address that is valid, but may be written otherwise (RFC 5952)."""
    address = parse_ip(value)
    if not isinstance(address, IPv6Address):
        return []
    if address.ipv4_mapped is not None:
        return [
            f"{path}: non-standard IP address {quote(value)} will be considered invalid in a "
            f"future Kubernetes release: use {quote(str(address.ipv4_mapped))}"
        ]
    if str(address) == value:
        return []
    return [
        f"{path}: IPv6 address {quote(value)} should be in RFC 5952 canonical format "
        f"({quote(str(address))})"
    ]


def doubt_range(text: str | None, path: str) -> list[str]:
    """Of a range that is valid, but has bits beyond its mask, or may be written otherwise."""
    try:
        interface = ip_interface(text or "")
    except ValueError:
        return []
    assert text is not None
    network = str(interface.network)
    if interface.ip != interface.network.network_address:
        address = f"{interface.ip}/{interface.network.max_prefixlen}"
        return [
            f"{path}: CIDR value {quote(text)} is ambiguous in this context (should be "
            f"{quote(network)} or {quote(address)}?)"
        ]
    if interface.version == 6 and network != text:
        return [
            f"{path}: IPv6 CIDR value {quote(text)} should be in RFC 5952 canonical format "
            f"({quote(network)})"
        ]
    return []


def doubt_pod_name(obj: Object) -> list[str]:
    """Of a workload's name, which becomes part of host names."""
    problems = label_problems(obj["metadata"].get("name") or "")
    if not problems:
        return []
    return [
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising "
        f"behavior; a DNS label is recommended: [{' '.join(problems)}]"
    ]


def doubt_bytes(value: Any, path: str) -> list[str]:
    """Of an amount of bytes, which should be whole."""
    if value is None:
        return []
    try:
        amount = parse(value)
    except QuantityError:
        return []
    # Milli-units are what upstream looks at, rounded up.
    if -(-amount.nanos // 10**6) % 1000 == 0:
        return []
    text = quote(str(amount))
    return [f"{path}: fractional byte value {text} is invalid, must be an integer"]


def doubt_claim_spec(spec: Object, path: str) -> list[str]:
    """Of the spec of a claim, wherever it stands."""
    resources = spec.get("resources") or {}
    return [
        text
        for kind in ("requests", "limits")
        for text in doubt_bytes(
            (resources.get(kind) or {}).get("storage"), f"{path}.resources.{kind}[storage]"
        )
    ]


def doubt_class_annotation(obj: Object) -> list[str]:
    """Of a claim or volume that names its class as it was done before there was a field."""
    if CLASS_ANNOTATION in (obj["metadata"].get("annotations") or {}):
        return [f"metadata.annotations[{CLASS_ANNOTATION}]: {USE_CLASS_FIELD}"]
    return []
