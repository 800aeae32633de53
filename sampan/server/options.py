"""Options of writes, from the query. Those of deletions are in `deleteoptions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sampan.api.errors import Cause, invalid

from .exchange import Request

FIELD_VALIDATION = ("Ignore", "Strict", "Warn")
META_GROUP = "meta.k8s.io"
MANAGER_LENGTH = 128
"""Longest fieldManager, as upstream."""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """CreateOptions, UpdateOptions and PatchOptions in one."""

    dry_run: bool = False
    field_validation: str = "Warn"
    field_manager: str = ""
    force: bool = False


DEFAULTS = WriteOptions()


def write_options(request: Request, kind: str) -> WriteOptions:
    """The options of a write; `kind` is upstream's name for them, for the error text."""
    if not request.query:
        return DEFAULTS
    validation = request.param("fieldValidation") or "Warn"
    manager = request.param("fieldManager")
    force = request.param("force")
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
        force=force in ("true", "1"),
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
