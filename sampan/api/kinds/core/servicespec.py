"""Validation of services (ValidateService, ValidateServiceUpdate)."""

from __future__ import annotations

from ... import fields
from ...errors import Cause, Object
from ..addresses import check_cidr, check_ip, check_ordinary_ip, dual_stack, parse_ip
from ..formats import (
    check_label,
    check_labels,
    check_port,
    check_port_or_name,
    check_protocol,
    check_qualified,
    check_subdomain,
)

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
TRAFFIC = ("Cluster", "Local")
DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
MAX_TIMEOUT_S = 86400
ONLY_BALANCER = "may only be used when `type` is 'LoadBalancer'"
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
HINTS, MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"


def is_headless(spec: Object) -> bool:
    return spec.get("clusterIPs") == ["None"]


def check_service(obj: Object, out: list[Cause]) -> None:
    spec = obj["spec"]
    annotations = obj["metadata"].get("annotations") or {}
    if MODE in annotations and HINTS in annotations and annotations[MODE] != annotations[HINTS]:
        why = f"must match annotations[{HINTS}] when both are specified"
        path = f"metadata.annotations[{MODE}]"
        out.append(fields.invalid(path, annotations[MODE], why))
    kind, ports = spec.get("type"), spec.get("ports") or []
    if not ports and not is_headless(spec) and kind != "ExternalName":
        out.append(fields.required("spec.ports"))
    if kind in ("LoadBalancer", "NodePort") and is_headless(spec):
        why = f"may not be set to 'None' for {kind} services"
        out.append(fields.invalid("spec.clusterIPs[0]", "None", why))
    if kind == "ExternalName":
        _check_external_name(spec, out)
    _check_ports(ports, kind or "", out)
    check_labels(spec.get("selector"), "spec.selector", out)
    _check_affinity(spec, out)
    if kind != "ExternalName":
        check_addresses(spec, out)
    for position, address in enumerate(spec.get("externalIPs") or ()):
        path = f"spec.externalIPs[{position}]"
        before = len(out)
        check_ip(address, path, out)
        if len(out) == before:
            check_ordinary_ip(address, path, out)
    if kind not in TYPES:
        out.append(fields.not_supported("spec.type", kind or "", TYPES))
    _check_balancer(spec, kind or "", annotations, out)
    _check_traffic(spec, kind or "", out)


def _check_external_name(spec: Object, out: list[Cause]) -> None:
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            why = "may not be set for ExternalName services"
            out.append(fields.forbidden(f"spec.{field}", why))
    target = (spec.get("externalName") or "").removesuffix(".")
    if target:
        check_subdomain(target, "spec.externalName", out)
    else:
        out.append(fields.required("spec.externalName"))


def _check_ports(ports: list[Object], kind: str, out: list[Cause]) -> None:
    names: set[str] = set()
    for position, port in enumerate(ports):
        path = f"spec.ports[{position}]"
        name = port.get("name")
        if name:
            check_label(name, f"{path}.name", out)
            if name in names:
                out.append(fields.duplicate(f"{path}.name", name))
            names.add(name)
        elif len(ports) > 1:
            out.append(fields.required(f"{path}.name"))
        check_port(port.get("port") or 0, f"{path}.port", out)
        check_protocol(port.get("protocol"), f"{path}.protocol", out)
        check_port_or_name(port.get("targetPort"), f"{path}.targetPort", out)
        if port.get("appProtocol") is not None:
            check_qualified(port["appProtocol"], f"{path}.appProtocol", out)
        if kind == "ClusterIP" and port.get("nodePort"):
            why = "may not be used when `type` is 'ClusterIP'"
            out.append(fields.forbidden(f"{path}.nodePort", why))
    _check_duplicates(ports, out)


def _check_duplicates(ports: list[Object], out: list[Cause]) -> None:
    node_ports: set[tuple[str, int]] = set()
    numbers: set[tuple[str, int]] = set()
    for position, port in enumerate(ports):
        protocol, node = port.get("protocol", ""), port.get("nodePort") or 0
        if node:
            if (protocol, node) in node_ports:
                out.append(fields.duplicate(f"spec.ports[{position}].nodePort", node))
            node_ports.add((protocol, node))
        key = (protocol, port.get("port") or 0)
        if key in numbers:
            shown = {"protocol": key[0], "port": key[1]}
            out.append(fields.duplicate(f"spec.ports[{position}]", shown))
        numbers.add(key)


def _check_affinity(spec: Object, out: list[Cause]) -> None:
    affinity, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    if affinity not in ("ClientIP", "None"):
        allowed = ("ClientIP", "None")
        out.append(fields.not_supported("spec.sessionAffinity", affinity or "", allowed))
    elif affinity == "None":
        if config is not None:
            why = "must not be set when session affinity is None"
            out.append(fields.forbidden("spec.sessionAffinityConfig", why))
    else:
        timeout = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        if timeout is None:
            why = "when session affinity type is ClientIP"
            out.append(fields.required("spec.sessionAffinityConfig", why))
        elif not 0 < timeout <= MAX_TIMEOUT_S:
            why = f"must be greater than 0 and less than {MAX_TIMEOUT_S}"
            out.append(fields.invalid(path, timeout, why))


def check_addresses(spec: Object, out: list[Cause]) -> None:
    """clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy together."""
    address, addresses = spec.get("clusterIP"), spec.get("clusterIPs") or []
    path = "spec.clusterIPs"
    if address:
        if not addresses:
            out.append(fields.required(path))
        elif addresses[0] != address:
            why = "first value must match `clusterIP`"
            out.append(fields.invalid(path, addresses, why))
    elif addresses:
        why = "must be empty when `clusterIP` is not specified"
        out.append(fields.invalid(path, addresses, why))
    _check_families(spec, out)
    before = len(out)
    for position, item in enumerate(addresses):
        if position == 0 and item == "None":
            if len(addresses) > 1:
                why = "'None' must be the first and only value"
                out.append(fields.invalid(path, addresses, why))
        else:
            check_ip(item, f"{path}[{position}]", out)
    if len(addresses) > 2:
        out.append(fields.invalid(path, addresses, "may only hold up to 2 values"))
    if len(out) > before:
        return
    if len(addresses) > 1 and not dual_stack(addresses):
        why = "may specify no more than one IP for each IP family"
        out.append(fields.invalid(path, addresses, why))
    if is_headless(spec):
        return
    for position, (item, family) in enumerate(
        zip(addresses, spec.get("ipFamilies") or (), strict=False)
    ):
        parsed = parse_ip(item)
        if parsed is not None and f"IPv{parsed.version}" != family:
            why = f"expected an {family} value as indicated by `ipFamilies[{position}]`"
            out.append(fields.invalid(f"{path}[{position}]", item, why))


def _check_families(spec: Object, out: list[Cause]) -> None:
    seen: set[str] = set()
    for position, family in enumerate(spec.get("ipFamilies") or ()):
        where = f"spec.ipFamilies[{position}]"
        if family not in ("IPv4", "IPv6"):
            out.append(fields.not_supported(where, family, ("IPv4", "IPv6")))
        if family in seen:
            out.append(fields.duplicate(where, family))
        seen.add(family)
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in POLICIES:
        out.append(fields.not_supported("spec.ipFamilyPolicy", policy, POLICIES))


def _check_balancer(spec: Object, kind: str, annotations: Object, out: list[Cause]) -> None:
    ranges = spec.get("loadBalancerSourceRanges")
    if ranges:
        path = "spec.LoadBalancerSourceRanges"
        if kind != "LoadBalancer":
            out.append(fields.forbidden(path, ONLY_BALANCER))
        for position, text in enumerate(ranges):
            check_cidr(text.strip(), f"{path}[{position}]", out)
    elif SOURCE_RANGES in annotations:
        path, text = f"metadata.annotations[{SOURCE_RANGES}]", annotations[SOURCE_RANGES].strip()
        if kind != "LoadBalancer":
            out.append(fields.forbidden(path, ONLY_BALANCER))
        for item in text.split(",") if text else ():
            check_cidr(item.strip(), path, out)
    if kind != "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(field) is not None:
                out.append(fields.forbidden(f"spec.{field}", ONLY_BALANCER))
    elif spec.get("loadBalancerClass") is not None:
        check_qualified(spec["loadBalancerClass"], "spec.loadBalancerClass", out)


def _check_traffic(spec: Object, kind: str, out: list[Cause]) -> None:
    outside = kind in ("NodePort", "LoadBalancer") or (
        kind == "ClusterIP" and bool(spec.get("externalIPs"))
    )
    policy, path = spec.get("externalTrafficPolicy"), "spec.externalTrafficPolicy"
    if not outside:
        if policy:
            why = "may only be set for externally-accessible services"
            out.append(fields.invalid(path, policy, why))
    elif not policy:
        out.append(fields.required(path))
    elif policy not in TRAFFIC:
        out.append(fields.not_supported(path, policy, TRAFFIC))
    port, path = spec.get("healthCheckNodePort") or 0, "spec.healthCheckNodePort"
    if kind == "LoadBalancer" and policy == "Local":
        if not port:
            out.append(fields.required(path))
        else:
            check_port(port, path, out)
    elif port:
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        out.append(fields.invalid(path, port, why))
    inner = spec.get("internalTrafficPolicy")
    if inner is not None and inner not in TRAFFIC:
        out.append(fields.not_supported("spec.internalTrafficPolicy", inner, TRAFFIC))
    spread = spec.get("trafficDistribution")
    if spread is not None and spread not in DISTRIBUTIONS:
        out.append(fields.not_supported("spec.trafficDistribution", spread, DISTRIBUTIONS))


def check_service_update(spec: Object, before: Object, out: list[Cause]) -> None:
    """What stays once set: addresses, families, health-check port, load balancer class."""
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        _check_kept_addresses(spec, before, out)
    if spec.get("type") == before.get("type") == "LoadBalancer":
        old_class, new_class = before.get("loadBalancerClass"), spec.get("loadBalancerClass")
        if old_class != new_class:
            path = "spec.loadBalancerClass"
            out.append(fields.invalid(path, new_class, "may not change once set"))
        if spec.get("externalTrafficPolicy") == before.get(
            "externalTrafficPolicy"
        ) == "Local" and spec.get("healthCheckNodePort") != before.get("healthCheckNodePort"):
            out.append(fields.forbidden("spec.healthCheckNodePort", "field is immutable"))


def _check_kept_addresses(spec: Object, before: Object, out: list[Cause]) -> None:
    new, old = spec.get("clusterIPs") or [], before.get("clusterIPs") or []
    once = "may not change once set"
    if not (is_headless(spec) and is_headless(before)):
        if len(new) == len(old):
            for position, address in enumerate(old):
                if address != new[position]:
                    out.append(fields.invalid(f"spec.clusterIPs[{position}]", new, once))
        elif old and not new:
            why = "primary clusterIP can not be unset"
            out.append(fields.invalid("spec.clusterIPs[0]", new, why))
        elif old and new[0] != old[0]:
            out.append(fields.invalid("spec.clusterIPs[0]", new, once))
        if len(old) == 2 and len(new) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
            why = "must be set to 'SingleStack' when releasing the secondary clusterIP"
            policy = spec.get("ipFamilyPolicy")
            out.append(fields.invalid("spec.ipFamilyPolicy", policy, why))
    if not is_headless(spec) and not is_headless(before):
        _check_kept_families(spec, before, out)


def _check_kept_families(spec: Object, before: Object, out: list[Cause]) -> None:
    now, was = spec.get("ipFamilies") or [], before.get("ipFamilies") or []
    path, once = "spec.ipFamilies[0]", "may not change once set"
    if len(now) == len(was):
        for family, other in zip(now, was, strict=True):
            if family != other:
                out.append(fields.invalid(path, now, once))
        return
    if len(was) > len(now) and not spec.get("clusterIPs"):
        out.append(fields.invalid(path, now, "primary ipFamily can not be unset"))
    if now and was and now[0] != was[0]:
        # The value upstream shows is that of the addresses.
        out.append(fields.invalid(path, spec.get("clusterIPs") or [], once))
    policy = spec.get("ipFamilyPolicy")
    if len(was) == 2 and len(now) == 1 and policy != "SingleStack":
        why = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        out.append(fields.invalid("spec.ipFamilyPolicy", policy, why))
