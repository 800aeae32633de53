"""A container's environment: pure, as kubelet makes it.

Order and rules of pkg/kubelet makeEnvironmentVariables; service links of pkg/kubelet/envvars;
`$(NAME)` of third_party/forked/golang/expansion.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from sampan.api.errors import Object

from .downward import Facts, field_value, resource_value
from .envfile import value_of

REFERENCE = re.compile(r"\$(\$|\(([^()]*)\)|)")

Lookup = Callable[[str, str], Object | None]
"""("configmaps" or "secrets", name) -> the object of the pod's namespace."""


ReadFile = Callable[[str, str], bytes]
"""(volume, path) -> its content. Raises OSError, KeyError for a volume that is not there."""


class ConfigError(Exception):
    """The container cannot be configured yet: CreateContainerConfigError with this text."""


def _no_files(volume: str, path: str) -> bytes:
    raise KeyError(volume)


class Environment(Struct, frozen=True):
    """What variables are made of, besides the container itself."""

    facts: Facts
    lookup: Lookup
    services: Sequence[Object] = ()
    """Services whose addresses the container gets."""
    read: ReadFile = _no_files


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value when there is one; `$$` is a dollar; the rest stays."""
    if "$" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        name = match.group(2)
        if match.group(1) == "$":
            return "$"
        if name is None or name not in variables:
            return match.group(0)
        return variables[name]

    return REFERENCE.sub(replace, text)


def variables(container: Mapping[str, Any], around: Environment) -> dict[str, str]:
    """All variables of the container, in order. Raises ConfigError for what is missing."""
    links = service_variables(around.services)
    out: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        out |= _all_of(source, around)
    for item in container.get("env") or ():
        name = item["name"]
        if item.get("valueFrom"):
            found = _one(item["valueFrom"], container, around)
            if found is None:
                continue
            out[name] = found
        else:
            # Service addresses are known to references, but are no match for the pod's own.
            out[name] = expand(item.get("value", ""), links | out)
    return out | {name: text for name, text in links.items() if name not in out}


def _all_of(source: Mapping[str, Any], around: Environment) -> dict[str, str]:
    prefix = source.get("prefix", "")
    for field, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
        ref = source.get(field)
        if ref is None:
            continue
        obj = _object(plural, ref, around)
        if obj is None:
            return {}
        return {prefix + key: text for key, text in sorted(texts(plural, obj).items())}
    return {}


def _one(
    source: Mapping[str, Any], container: Mapping[str, Any], around: Environment
) -> str | None:
    if "fieldRef" in source:
        return field_value(around.facts, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource_value(around.facts, source["resourceFieldRef"], container)
    if "fileKeyRef" in source:
        return _of_file(source["fileKeyRef"], around)
    for field, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        ref = source.get(field)
        if ref is None:
            continue
        obj = _object(plural, ref, around)
        if obj is None:
            return None
        found = texts(plural, obj).get(ref["key"])
        if found is None and not ref.get("optional"):
            kind = "ConfigMap" if plural == "configmaps" else "Secret"
            raise ConfigError(
                f"couldn't find key {ref['key']} in {kind} {around.facts.namespace}/{ref['name']}"
            )
        return found
    return ""


def _of_file(ref: Mapping[str, Any], around: Environment) -> str | None:
    key, path, optional = ref["key"], ref["path"], ref.get("optional")
    try:
        data = around.read(ref["volumeName"], path)
        found = value_of(data.decode("utf-8", "replace"), key)
    except KeyError as error:
        raise ConfigError(f'cannot find the volume "{ref["volumeName"]}"') from error
    except FileNotFoundError as error:
        if optional:
            return None
        raise ConfigError(f'file "{path}" not found') from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"couldn't parse env file: {error}") from error
    if found is None and not optional:
        raise ConfigError(f'environment variable key "{key}" not found in file "{path}"')
    return found


def _object(plural: str, ref: Mapping[str, Any], around: Environment) -> Object | None:
    name = ref.get("name", "")
    obj = around.lookup(plural, name)
    if obj is None and not ref.get("optional"):
        raise ConfigError(f'{plural[:-1]} "{name}" not found')
    return obj


def texts(plural: str, obj: Object) -> dict[str, str]:
    """The data of a ConfigMap or Secret as text."""
    if plural == "configmaps":
        return obj.get("data") or {}
    return {
        key: base64.b64decode(data).decode("utf-8", "surrogateescape")
        for key, data in (obj.get("data") or {}).items()
    }


def linked_services(services: Iterable[Object], namespace: str, links: bool) -> list[Object]:
    """Services a pod sees as variables: `kubernetes`, and those of its namespace if it wants."""
    out = {}
    for service in services:
        meta = service["metadata"]
        if service["spec"].get("clusterIP", "") in ("", "None"):
            continue
        master = meta["name"] == "kubernetes" and meta.get("namespace") == "default"
        mine = links and meta.get("namespace") == namespace
        if mine or (master and "kubernetes" not in out):
            out[meta["name"]] = service
    return [out[name] for name in sorted(out)]


def service_variables(services: Iterable[Object]) -> dict[str, str]:
    """Docker-link style variables of services that have a cluster IP and ports."""
    out: dict[str, str] = {}
    for service in services:
        spec = service["spec"]
        ports = spec.get("ports") or ()
        if not ports:
            continue
        prefix = _variable(service["metadata"]["name"])
        ip = spec["clusterIP"]
        out[f"{prefix}_SERVICE_HOST"] = ip
        out[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        for port in ports:
            if port.get("name"):
                out[f"{prefix}_SERVICE_PORT_{_variable(port['name'])}"] = str(port["port"])
        for index, port in enumerate(ports):
            protocol = port.get("protocol", "TCP")
            url = f"{protocol.lower()}://{_bracket(ip)}:{port['port']}"
            link = f"{prefix}_PORT_{port['port']}_{protocol}"
            if index == 0:
                out[f"{prefix}_PORT"] = url
            out[link] = url
            out[f"{link}_PROTO"] = protocol.lower()
            out[f"{link}_PORT"] = str(port["port"])
            out[f"{link}_ADDR"] = ip
    return out


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


def _bracket(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
