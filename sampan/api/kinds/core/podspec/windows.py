"""Validation of windowsOptions, of pods and containers: names of accounts, and containers that are
processes of their host (validateWindowsSecurityContextOptions, validateWindowsHostProcessPod)."""

from __future__ import annotations

import re

from .... import fields
from ....errors import Cause, Object
from ...formats import check_subdomain

MAX_CREDENTIAL_KIB = 64
"""Of a GMSA credential spec, which has some hundred bytes."""
MAX_DOMAIN = 256
MAX_USER = 104
"""Windows' own limit of a user's name."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DNS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NOT_IN_USER = '"/\\:;|=,+*?<>@[]'
_BLANK_USER = re.compile(r"[. ]+")
ALL_OR_NONE = (
    "If pod contains any hostProcess containers then all containers must be HostProcess containers"
)
ON_HOST_NETWORK = "hostNetwork must be true if pod contains any hostProcess containers"


def check_windows_options(options: Object, path: str, out: list[Cause]) -> None:
    name, content = options.get("gmsaCredentialSpecName"), options.get("gmsaCredentialSpec")
    if name is not None:
        check_subdomain(name, f"{path}.gmsaCredentialSpecName", out)
    if content is not None:
        where = f"{path}.gmsaCredentialSpec"
        if not content:
            why = "gmsaCredentialSpec cannot be an empty string"
            out.append(fields.invalid(where, content, why))
        elif len(content.encode()) > MAX_CREDENTIAL_KIB * 1024:
            why = f"gmsaCredentialSpec size must be under {MAX_CREDENTIAL_KIB} KiB"
            out.append(fields.invalid(where, content, why))
    user = options.get("runAsUserName")
    if user is not None:
        for why in _name_problems(user):
            out.append(fields.invalid(f"{path}.runAsUserName", user, f"runAsUserName{why}"))


def _name_problems(text: str) -> list[str]:
    """What is wrong with USER or DOMAIN\\USER."""
    if not text:
        return [" cannot be an empty string"]
    if _CONTROL.search(text):
        return [" cannot contain control characters"]
    if text.count("\\") > 1:
        return [" cannot contain more than one backslash"]
    domain, slash, user = text.rpartition("\\")
    out = []
    if len(domain.encode()) >= MAX_DOMAIN:
        out.append(f"'s Domain length must be under {MAX_DOMAIN} characters")
    if slash and not (_NETBIOS.fullmatch(domain) or _DNS.fullmatch(domain)):
        out.append("'s Domain doesn't match the NetBios nor the DNS format")
    if not user:
        out.append("'s User cannot be empty")
    elif len(user.encode()) > MAX_USER:
        out.append(f"'s User length must not be longer than {MAX_USER} characters")
    if _BLANK_USER.fullmatch(user):
        out.append("'s User cannot contain only periods or spaces")
    if any(char in user for char in _NOT_IN_USER):
        out.append(f"'s User cannot contain the following characters: {_NOT_IN_USER}")
    return out


def check_host_processes(spec: Object, path: str, out: list[Cause]) -> None:
    """Either all containers of a pod are processes of the host, or none."""
    pod = _host_process(spec)
    total = on_host = 0
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for position, container in enumerate(spec.get(name) or ()):
            own = _host_process(container)
            if pod is not None and own is not None and pod != own:
                where = f"{path}.{name}[{position}].securityContext.windowsOptions.hostProcess"
                shown = "true" if pod else "false"
                why = f"pod hostProcess value must be identical if both are specified, was {shown}"
                out.append(fields.invalid(where, own, why))
            total += 1
            on_host += bool(pod if own is None else own)
    if not on_host:
        return
    if on_host != total:
        out.append(fields.invalid(path, "", ALL_OR_NONE))
    if not spec.get("hostNetwork"):
        out.append(fields.invalid(f"{path}.hostNetwork", False, ON_HOST_NETWORK))


def _host_process(owner: Object) -> bool | None:
    options: Object = (owner.get("securityContext") or {}).get("windowsOptions") or {}
    return options.get("hostProcess")
