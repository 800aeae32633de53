"""Validation of a pod's names and name resolution."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .... import fields
from ....errors import Cause, Object
from ....names import MAX_SUBDOMAIN, max_length, regex_problem
from ...addresses import check_ip
from ...formats import check_subdomain

MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARS = 2048
"""The limits of libc's resolver."""
MAX_HOSTNAME = 64
"""HOST_NAME_MAX of Linux."""

_PART = r"[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?"
_UNDERSCORED = re.compile(rf"{_PART}(\.{_PART})*")
_UNDERSCORED_TEXT = regex_problem(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', "
    "'_' or '.', and must start and end with an alphanumeric character",
    rf"{_PART}(\.{_PART})*", "example.com",
)  # fmt: skip


def check_dns(spec: Object, path: str, out: list[Cause]) -> None:
    """spec.dnsPolicy None and spec.dnsConfig; `path` is dnsConfig's."""
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            why = "must provide `dnsConfig` when `dnsPolicy` is None"
            out.append(fields.required(path, why))
            return
        if not config.get("nameservers"):
            why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            out.append(fields.required(f"{path}.nameservers", why))
            return
    if config is None:
        return
    servers = config.get("nameservers") or ()
    if len(servers) > MAX_NAMESERVERS:
        why = f"must not have more than {MAX_NAMESERVERS} nameservers"
        out.append(fields.invalid(f"{path}.nameservers", servers, why))
    for position, server in enumerate(servers):
        check_ip(server, f"{path}.nameservers[{position}]", out)
    _check_searches(config.get("searches") or (), f"{path}.searches", out)
    for position, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            out.append(fields.required(f"{path}.options[{position}]", "must not be empty"))


def _check_searches(searches: Sequence[str], path: str, out: list[Cause]) -> None:
    if len(searches) > MAX_SEARCHES:
        why = f"must not have more than {MAX_SEARCHES} search paths"
        out.append(fields.invalid(path, searches, why))
    if len(" ".join(searches)) > MAX_SEARCH_CHARS:
        why = (
            f"must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the "
            "search list"
        )
        out.append(fields.invalid(path, searches, why))
    for position, search in enumerate(searches):
        if search == ".":
            continue
        name = search.removesuffix(".")
        where = f"{path}[{position}]"
        if len(name) > MAX_SUBDOMAIN:
            out.append(fields.invalid(where, name, max_length(MAX_SUBDOMAIN)))
        if not _UNDERSCORED.fullmatch(name):
            out.append(fields.invalid(where, name, _UNDERSCORED_TEXT))


def check_aliases(aliases: Sequence[Object], path: str, out: list[Cause]) -> None:
    """spec.hostAliases."""
    for position, alias in enumerate(aliases):
        where = f"{path}[{position}]"
        check_ip(alias.get("ip"), f"{where}.ip", out)
        for index, name in enumerate(alias.get("hostnames") or ()):
            check_subdomain(name, f"{where}.hostnames[{index}]", out)


def check_override(spec: Object, path: str, out: list[Cause]) -> None:
    """spec.hostnameOverride (KEP-4762); `path` is its own."""
    name = spec["hostnameOverride"]
    if spec.get("hostNetwork"):
        out.append(fields.forbidden(path, "may not be set when `hostNetwork` is true"))
    if spec.get("setHostnameAsFQDN"):
        out.append(fields.forbidden(path, "may not be set when `setHostnameAsFQDN` is true"))
    if len(name) > MAX_HOSTNAME:
        out.append(fields.too_long(path, name, MAX_HOSTNAME))
    check_subdomain(name, path, out)


def check_host_ports(spec: Object, path: str, in_pod: bool, out: list[Cause]) -> None:
    """On the host's network a container listens where it says."""
    why = "must match `containerPort` when `hostNetwork` is true"
    for position, container in enumerate(spec.get("containers") or ()):
        for index, port in enumerate(container.get("ports") or ()):
            host = port.get("hostPort") or 0
            if (in_pod or host) and host != port.get("containerPort"):
                where = f"{path}.containers[{position}].ports[{index}].hostPort"
                out.append(fields.invalid(where, host, why))
