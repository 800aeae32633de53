"""The administrator's AuthorizationConfiguration (apiserver.config.k8s.io/v1), read and checked.

Pure but for `read`. Whatever is wrong is told with the path of the field, before anything is used.
Rules and texts: upstream's apiserver/pkg/apis/apiserver/validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from sampan.api.names import subdomain_problems

from .. import documents
from ..documents import BadDocument, duration_s, mapping, text

VERSIONS = (
    "apiserver.config.k8s.io/v1",
    "apiserver.config.k8s.io/v1beta1",
    "apiserver.config.k8s.io/v1alpha1",
)
KIND = "AuthorizationConfiguration"
NODE, RBAC, WEBHOOK = "Node", "RBAC", "Webhook"
ALWAYS_ALLOW, ALWAYS_DENY, ABAC = "AlwaysAllow", "AlwaysDeny", "ABAC"
TYPES = (ABAC, ALWAYS_ALLOW, ALWAYS_DENY, NODE, RBAC, WEBHOOK)
IN_CLUSTER, BY_FILE = "InClusterConfig", "KubeConfigFile"
MAX_CONDITIONS = 64
LONGEST_S = 30.0


class Webhook(Struct, frozen=True):
    kubeconfig: Path | None
    """None: the account of the pod that the server is."""
    timeout_s: float
    version: str
    """Of the SubjectAccessReview that is sent: v1 or v1beta1."""
    denies_on_failure: bool
    allowed_s: float = 300.0
    refused_s: float = 30.0
    conditions: Sequence[str] = ()


class Step(Struct, frozen=True):
    """One authoriser of the chain."""

    type: str
    name: str
    webhook: Webhook | None = None


def read(path: Path) -> Sequence[Step] | None:
    """The chain in `path`; None if there is no file. Raises BadDocument."""
    return documents.load(path, partial(parse, folder=path.parent))


def parse(raw: Any, folder: Path) -> Sequence[Step]:
    """The chain of a decoded file; its kubeconfig files are looked for from `folder`. Raises
    BadDocument."""
    top = documents.versioned(raw, VERSIONS, KIND, ("authorizers",))
    items = documents.items(top.get("authorizers"), "authorizers")
    if not items:
        why = "at least one authorization mode must be defined"
        raise BadDocument(f"authorizers: Required value: {why}")
    steps: list[Step] = []
    for at, item in enumerate(items):
        path = f"authorizers[{at}]"
        step = _step(item, path, folder)
        if step.type != WEBHOOK and any(step.type == other.type for other in steps):
            raise BadDocument(f'{path}.type: Duplicate value: "{step.type}"')
        if any(step.name == other.name for other in steps):
            raise BadDocument(f'{path}.name: Duplicate value: "{step.name}"')
        steps.append(step)
    return tuple(steps)


def _step(raw: Any, path: str, folder: Path) -> Step:
    found = mapping(raw, path, ("type", "name", "webhook"))
    kind, name = text(found, "type", path), text(found, "name", path)
    if kind not in TYPES:
        _unsupported(f"{path}.type", kind, TYPES)
    for why in subdomain_problems(name):
        raise BadDocument(f'{path}.name: Invalid value: "{name}": {why}')
    settings = found.get("webhook")
    if kind != WEBHOOK:
        if settings is not None:
            why = "may only be specified when type=Webhook"
            raise BadDocument(f"{path}.webhook: Invalid value: {why}")
        return Step(kind, name)
    if settings is None:
        raise BadDocument(f"{path}.webhook: Required value: required when type=Webhook")
    return Step(kind, name, _webhook(settings, f"{path}.webhook", folder))


def _webhook(raw: Any, path: str, folder: Path) -> Webhook:
    known = (
        "authorizedTTL", "cacheAuthorizedRequests", "unauthorizedTTL", "cacheUnauthorizedRequests",
        "timeout", "subjectAccessReviewVersion", "matchConditionSubjectAccessReviewVersion",
        "failurePolicy", "connectionInfo", "matchConditions",
    )  # fmt: skip
    found = mapping(raw, path, known)
    timeout_s = duration_s(text(found, "timeout", path), f"{path}.timeout")
    if timeout_s > LONGEST_S:
        raise BadDocument(f"{path}.timeout: Invalid value: must be <= 30s")
    version = _choice(found, "subjectAccessReviewVersion", path, ("v1", "v1beta1"))
    policy = _choice(found, "failurePolicy", path, ("NoOpinion", "Deny"))
    conditions = _conditions(found.get("matchConditions"), f"{path}.matchConditions")
    matched = "matchConditionSubjectAccessReviewVersion"
    if found.get(matched):
        _choice(found, matched, path, ("v1",))
    elif conditions:
        why = "required if match conditions are specified"
        raise BadDocument(f"{path}.{matched}: Required value: {why}")
    return Webhook(
        kubeconfig=_kubeconfig(found.get("connectionInfo"), f"{path}.connectionInfo", folder),
        timeout_s=timeout_s,
        version=version,
        denies_on_failure=policy == "Deny",
        allowed_s=_ttl(found, "cacheAuthorizedRequests", "authorizedTTL", path, 300.0),
        refused_s=_ttl(found, "cacheUnauthorizedRequests", "unauthorizedTTL", path, 30.0),
        conditions=conditions,
    )


def _ttl(found: Mapping[str, Any], switch: str, field: str, path: str, usual_s: float) -> float:
    """0 for answers that are not to be remembered."""
    cached = documents.flag(found, switch, path, True)
    if field in found and (seconds := duration_s(found[field], f"{path}.{field}")):
        return seconds if cached else 0.0
    return usual_s if cached else 0.0


def _kubeconfig(raw: Any, path: str, folder: Path) -> Path | None:
    found = mapping(raw, path, ("type", "kubeConfigFile"))
    if _choice(found, "type", path, (IN_CLUSTER, BY_FILE)) == IN_CLUSTER:
        if found.get("kubeConfigFile") is not None:
            value, why = found["kubeConfigFile"], "can only be set when type=KubeConfigFile"
            raise BadDocument(f'{path}.kubeConfigFile: Invalid value: "{value}": {why}')
        return None
    file = folder / text(found, "kubeConfigFile", path)
    if not file.is_file():
        why = "kubeconfig file does not exist"
        raise BadDocument(f'{path}.kubeConfigFile: Invalid value: "{file}": {why}')
    return file


def _conditions(raw: Any, path: str) -> Sequence[str]:
    items = documents.items(raw, path)
    if len(items) > MAX_CONDITIONS:
        raise BadDocument(f"{path}: Too many: must have at most {MAX_CONDITIONS} items")
    out: list[str] = []
    for at, item in enumerate(items):
        where = f"{path}[{at}]"
        said = text(mapping(item, where, ("expression",)), "expression", where)
        if said in out:
            raise BadDocument(f'{where}.expression: Duplicate value: "{said}"')
        out.append(said)
    return tuple(out)


def _choice(found: Mapping[str, Any], field: str, path: str, known: Sequence[str]) -> str:
    value = text(found, field, path)
    if value not in known:
        _unsupported(f"{path}.{field}", value, known)
    return value


def _unsupported(path: str, value: Any, known: Sequence[str]) -> None:
    words = ", ".join(f'"{item}"' for item in known)
    raise BadDocument(f'{path}: Unsupported value: "{value}": supported values: {words}')
