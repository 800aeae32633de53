"""Ingresses that lead nowhere. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.api.errors import Object

from .facts import Facts, Finding

DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
OLD_CLASS = "kubernetes.io/ingress.class"


def unclaimed(facts: Facts) -> Iterator[Finding]:
    """Nobody takes it: no class, or none of that name."""
    classes = facts.others.get("ingressclasses", [])
    names = sorted(item["metadata"]["name"] for item in classes)
    known = f"classes: {', '.join(names)}" if names else "there is no IngressClass"
    wanted = facts.spec.get("ingressClassName")
    notes = facts.obj["metadata"].get("annotations") or {}
    if wanted and wanted not in names:
        yield Finding(
            "ingress/class-not-found",
            f"There is no class {wanted}, so no controller takes it.",
            [f"spec.ingressClassName: {wanted}", known],
            [_choose(names)],
        )
    elif not wanted and OLD_CLASS not in notes:
        yield Finding(
            "ingress/no-class",
            "It names no class, so no controller takes it.",
            ["spec.ingressClassName is empty", known],
            [_choose(names)],
        )


def _choose(names: list[str]) -> str:
    if names:
        return f"Set spec.ingressClassName to {' or '.join(names)}."
    return "Install a controller, as with: sampan addon enable ingress; then name its class."


def backends_of(facts: Facts) -> list[tuple[str, Object]]:
    """(where in words, service) of each backend."""
    out = []
    default = (facts.spec.get("defaultBackend") or {}).get("service")
    if default:
        out.append(("defaultBackend", default))
    for rule in facts.spec.get("rules") or ():
        for path in (rule.get("http") or {}).get("paths") or ():
            service = (path.get("backend") or {}).get("service")
            if service:
                out.append((f"{rule.get('host') or '*'}{path.get('path') or '/'}", service))
    return out


def backends(facts: Facts) -> Iterator[Finding]:
    services = {item["metadata"]["name"]: item for item in facts.others.get("services", [])}
    told = set()
    for where, wanted in backends_of(facts):
        name = wanted["name"]
        found, port = services.get(name), wanted.get("port") or {}
        if (name, str(port)) in told:
            continue
        told.add((name, str(port)))
        if found is None:
            yield Finding(
                "ingress/no-service",
                f"There is no service {name}.",
                [f"{where} leads to it"],
                ["Create it in this namespace, or correct the backend."],
            )
            continue
        ports = found["spec"].get("ports") or ()
        if not any(port in ({"number": one["port"]}, {"name": one.get("name")}) for one in ports):
            has = ", ".join(f"{one['port']} {one.get('name') or ''}".strip() for one in ports)
            yield Finding(
                "ingress/no-port",
                f"Service {name} has no port {port.get('number') or port.get('name')}.",
                [f"{where} leads to it", f"its ports: {has}"],
                ["Correct the backend's port: it is the service's, not the container's."],
            )
        elif not _answered(facts, name):
            yield Finding(
                "ingress/no-endpoints",
                f"Nobody answers for service {name}.",
                [f"{where} leads to it", "no ready endpoint in its EndpointSlices"],
                [f"sampan why service/{name} -n {facts.obj['metadata']['namespace']}"],
            )


def _answered(facts: Facts, name: str) -> bool:
    return any(
        (item["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name
        and any((one.get("conditions") or {}).get("ready", True) for one in item["endpoints"] or ())
        for item in facts.others.get("endpointslices", [])
    )


def certificates(facts: Facts) -> Iterator[Finding]:
    known = {item["metadata"]["name"] for item in facts.others.get("secrets", [])}
    for item in facts.spec.get("tls") or ():
        name = item.get("secretName")
        if name and name not in known:
            yield Finding(
                "ingress/no-secret",
                f"The secret {name} with its certificate is not there.",
                [f"spec.tls: {', '.join(item.get('hosts') or ()) or 'all hosts'}"],
                [f"kubectl create secret tls {name} --cert=FILE --key=FILE"],
            )


def addressed(facts: Facts) -> Iterator[Finding]:
    found = (facts.status.get("loadBalancer") or {}).get("ingress")
    if found:
        where = ", ".join(item.get("ip") or item.get("hostname") or "" for item in found)
        yield Finding("running", f"It is reached at {where}.", broken=False)
    elif not list(unclaimed(facts)):
        yield Finding(
            "ingress/no-address",
            "No controller has answered for it yet.",
            ["status.loadBalancer is empty"],
            ["See that the controller of its class runs: kubectl get ingressclass,pods -A"],
        )
