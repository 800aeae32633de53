"""Options of writes, from the query. Those of deletions are in `deleteoptions`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from msgspec import Struct

from sampan.api.errors import Cause, invalid

from .exchange import Request
from .listoptions import flag
from .ownership.entries import manager_name

FIELD_VALIDATION = ("Ignore", "Strict", "Warn")
META_GROUP = "meta.k8s.io"
MANAGER_LENGTH = 128
"""Longest fieldManager, as upstream."""
SERVER_AGENT = "kube-apiserver"
"""What the server calls itself where it writes without being asked."""


class WriteOptions(Struct, frozen=True):
    """CreateOptions, UpdateOptions and PatchOptions in one."""

    dry_run: bool = False
    field_validation: str = "Warn"
    field_manager: str = ""
    force: bool = False
    user_agent: str = SERVER_AGENT

    @property
    def manager(self) -> str:
        """Who owns what this write changes (metadata.managedFields)."""
        return manager_name(self.field_manager, self.user_agent)


DEFAULTS = WriteOptions()


@lru_cache(maxsize=256)
def _of_agent(user_agent: str) -> WriteOptions:
    """What a client without options says; there are few different clients."""
    return WriteOptions(user_agent=user_agent)


def write_options(request: Request, kind: str) -> WriteOptions:
    """The options of a write; `kind` is upstream's name for them, for the error text."""
    agent = request.headers.get("user-agent", "")
    if not request.query:
        return _of_agent(agent)
    validation = request.param("fieldValidation") or "Warn"
    manager = request.param("fieldManager")
    causes = (
        []
        if validation in FIELD_VALIDATION
        else [
            Cause(
                "fieldValidation",
                f'Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn"',
                "FieldValueNotSupported",
            )
        ]
    )
    causes += _dry_run_causes(request.query.get("dryRun") or ())
    if len(manager) > MANAGER_LENGTH:
        causes.append(
            Cause(
                "fieldManager",
                f"Too long: may not be more than {MANAGER_LENGTH} bytes",
                "FieldValueTooLong",
            )
        )
    if causes:
        raise invalid(META_GROUP, kind, "", causes)
    return WriteOptions(
        dry_run=bool(request.param("dryRun")),
        field_validation=validation,
        field_manager=manager,
        force=bool(flag(request, "force")),
        user_agent=agent,
    )


def _dry_run_causes(values: Any) -> list[Cause]:
    return [
        Cause(
            "dryRun",
            f'Unsupported value: "{value}": supported values: "All"',
            "FieldValueNotSupported",
        )
        for value in values
        if value not in ("", "All")
    ]
