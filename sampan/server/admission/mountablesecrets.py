"""Which secrets pods of a service account may use, where it says so
(`kubernetes.io/enforce-mountable-secrets`); a part of ServiceAccount, whose texts these are.
"""

from __future__ import annotations

from collections.abc import Iterator

from sampan.api.errors import Object

ANNOTATION = "kubernetes.io/enforce-mountable-secrets"
# What Go's ParseBool takes for true.
TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
PLAIN = (("initContainers", "init container"), ("containers", "container"))
EPHEMERAL = (("ephemeralContainers", "ephemeral container"),)


def is_limited(account: Object) -> bool:
    """May pods of the account use only what it lists?"""
    return (account["metadata"].get("annotations") or {}).get(ANNOTATION) in TRUE


def refused_secret(spec: Object, account: Object) -> str:
    """What of a new pod is not listed, "" for nothing."""
    return next(_refused(spec, account), "")


def refused_later(spec: Object, account: Object) -> str:
    """The same of its ephemeral containers."""
    return next(_containers(spec, account, EPHEMERAL), "")


def _refused(spec: Object, account: Object) -> Iterator[str]:
    known = {item.get("name") for item in account.get("secrets") or ()}
    rest = _rest(account)
    for volume in spec.get("volumes") or ():
        name = (volume.get("secret") or {}).get("secretName")
        if "secret" in volume and name not in known:
            yield f'volume with secret.secretName="{name}" is {rest} secret'
    yield from _containers(spec, account, PLAIN)
    pulling = {item.get("name") for item in account.get("imagePullSecrets") or ()}
    for position, item in enumerate(spec.get("imagePullSecrets") or ()):
        name = item.get("name")
        if name not in pulling:
            yield f'imagePullSecrets[{position}].name="{name}" is {rest} imagePullSecret'


def _rest(account: Object) -> str:
    name = account["metadata"]["name"]
    return f"not allowed because service account {name} does not reference that"


def _containers(
    spec: Object, account: Object, fields: tuple[tuple[str, str], ...]
) -> Iterator[str]:
    known = {item.get("name") for item in account.get("secrets") or ()}
    for field, word in fields:
        for container in spec.get(field) or ():
            for source, name in _names(container):
                if name not in known:
                    yield (
                        f"{word} {container.get('name')} with {source} referencing "
                        f'secret.secretName="{name}" is {_rest(account)} secret'
                    )


def _names(container: Object) -> Iterator[tuple[str, str]]:
    for item in container.get("env") or ():
        ref = (item.get("valueFrom") or {}).get("secretKeyRef")
        if ref is not None:
            yield f"envVar {item.get('name')}", ref.get("name", "")
    for item in container.get("envFrom") or ():
        if item.get("secretRef") is not None:
            yield "envFrom", item["secretRef"].get("name", "")
