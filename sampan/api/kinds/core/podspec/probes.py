"""Validation of probes and lifecycle hooks."""

from __future__ import annotations

from typing import Any

from .... import fields
from ....errors import Cause, Object
from ...formats import NEGATIVE, check_header, check_port, check_port_or_name

COUNTERS = (
    "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold",
    "failureThreshold",
)  # fmt: skip
SCHEMES = ("HTTP", "HTTPS")
ONE_ONLY = "may not specify more than 1 handler type"


def check_probes(container: Object, path: str, out: list[Cause]) -> None:
    probe = container.get("livenessProbe")
    if probe is not None:
        where = f"{path}.livenessProbe"
        _check_probe(probe, where, out)
        _check_one_success(probe, where, out)
    probe = container.get("readinessProbe")
    if probe is not None:
        where = f"{path}.readinessProbe"
        _check_probe(probe, where, out)
        grace = probe.get("terminationGracePeriodSeconds")
        if grace is not None:
            where = f"{where}.terminationGracePeriodSeconds"
            out.append(fields.invalid(where, grace, "must not be set for readinessProbes"))
    probe = container.get("startupProbe")
    if probe is not None:
        where = f"{path}.startupProbe"
        _check_probe(probe, where, out)
        _check_one_success(probe, where, out)


def _check_one_success(probe: Object, path: str, out: list[Cause]) -> None:
    if probe.get("successThreshold") != 1:
        value = probe.get("successThreshold") or 0
        out.append(fields.invalid(f"{path}.successThreshold", value, "must be 1"))


def _check_probe(probe: Object, path: str, out: list[Cause]) -> None:
    _check_handler(probe, path, None, out)
    for name in COUNTERS:
        value = probe.get(name)
        if value is not None and value < 0:
            out.append(fields.invalid(f"{path}.{name}", value, NEGATIVE))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        where = f"{path}.terminationGracePeriodSeconds"
        out.append(fields.invalid(where, grace, "must be greater than 0"))


def check_lifecycle(
    lifecycle: Object, path: str, grace_period_s: int | None, out: list[Cause]
) -> None:
    for name in ("postStart", "preStop"):
        hook = lifecycle.get(name)
        if hook is not None:
            _check_handler(hook, f"{path}.{name}", grace_period_s, out)


def _check_handler(handler: Object, path: str, grace: int | None, out: list[Cause]) -> None:
    found = False
    for name in ("exec", "httpGet", "tcpSocket", "grpc", "sleep"):
        action = handler.get(name)
        if action is None:
            continue
        where = f"{path}.{name}"
        if found:
            out.append(fields.forbidden(where, ONE_ONLY))
            continue
        found = True
        if name == "exec":
            if not action.get("command"):
                out.append(fields.required(f"{where}.command"))
        elif name == "httpGet":
            _check_http_get(action, where, out)
        elif name == "tcpSocket":
            check_port_or_name(action.get("port"), f"{where}.port", out)
        elif name == "grpc":
            check_port(action.get("port") or 0, f"{where}.port", out)
        else:
            _check_sleep(action.get("seconds") or 0, where, grace, out)
    if not found:
        out.append(fields.required(path, "must specify a handler type"))


def _check_http_get(action: Object, path: str, out: list[Cause]) -> None:
    if not action.get("path"):
        out.append(fields.required(f"{path}.path"))
    check_port_or_name(action.get("port"), f"{path}.port", out)
    if action.get("scheme") not in SCHEMES:
        out.append(fields.not_supported(f"{path}.scheme", action.get("scheme") or "", SCHEMES))
    for header in action.get("httpHeaders") or ():
        check_header(header.get("name") or "", f"{path}.httpHeaders", out)


def _check_sleep(seconds: Any, path: str, grace: int | None, out: list[Cause]) -> None:
    if grace is not None and not 0 <= seconds <= grace:
        why = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        out.append(fields.invalid(path, seconds, why))
