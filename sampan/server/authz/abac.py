"""ABAC: rights from a file of policies, one JSON object a line (abac.authorization.kubernetes.io).

The file is upstream's --authorization-policy-file, `FILE` in the administrator's folder. Rules of
upstream's pkg/auth/authorizer/abac; lines of the form before v1beta1, which had no apiVersion, are
refused rather than guessed at. Cost of a question: one pass over the policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct

from ..documents import BadDocument
from ..exchange import User
from .questions import Asked, Said, Verdict

FILE = "authorization-policy.jsonl"
API_VERSION, KIND = "abac.authorization.kubernetes.io/v1beta1", "Policy"
TEXTS = ("user", "group", "apiGroup", "resource", "namespace", "nonResourcePath")
ANY = "*"
READS = frozenset({"get", "list", "watch"})
NO_OPINION = Said(Verdict.NO_OPINION, "No policy matched.")


class Policy(Struct, frozen=True, kw_only=True):
    """One line. An empty field matches nothing, `*` everything."""

    user: str = ""
    group: str = ""
    apiGroup: str = ""  # noqa: N815 - a field of the file
    resource: str = ""
    namespace: str = ""
    nonResourcePath: str = ""  # noqa: N815 - the same
    readonly: bool = False

    def allows(self, asked: Asked) -> bool:
        if not self._is_about(asked.user) or (self.readonly and asked.verb not in READS):
            return False
        if asked.path:
            path = self.nonResourcePath
            return path == asked.path or (path.endswith(ANY) and asked.path.startswith(path[:-1]))
        return (
            self.namespace in (ANY, asked.namespace)
            and self.resource in (ANY, asked.plural)
            and self.apiGroup in (ANY, asked.group)
        )

    def _is_about(self, user: User) -> bool:
        """Both the user and the group that are named; a line that names neither is nobody's."""
        if self.user and self.user not in (ANY, user.name):
            return False
        if self.group and self.group != ANY and self.group not in user.groups:
            return False
        return bool(self.user or self.group)


class Policies:
    """The authoriser."""

    def __init__(self, path: Path) -> None:
        """Raises BadDocument for a file that is not there or is no good."""
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise BadDocument(f"{path}: {error}") from error
        self._policies: Sequence[Policy] = tuple(
            _read(line, f"{path}: line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip() and not line.strip().startswith(b"#")
        )

    def decide(self, asked: Asked) -> Said:
        if any(policy.allows(asked) for policy in self._policies):
            return Said(Verdict.ALLOW)
        return NO_OPINION


def _read(line: bytes, where: str) -> Policy:
    try:
        raw: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadDocument(f"{where}: {error}") from None
    found = raw if isinstance(raw, dict) else {}
    if (found.get("apiVersion"), found.get("kind")) != (API_VERSION, KIND):
        raise BadDocument(f"{where}: apiVersion and kind must be {API_VERSION} and {KIND}")
    spec = found.get("spec")
    if not isinstance(spec, dict):
        raise BadDocument(f"{where}: spec: Required value")
    for key, value in spec.items():
        if key not in (*TEXTS, "readonly"):
            raise BadDocument(f"{where}: unknown field spec.{key}")
        if not isinstance(value, bool if key == "readonly" else str):
            raise BadDocument(f"{where}: spec.{key}: not of its type")
    return Policy(**spec)
