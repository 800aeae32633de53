"""Options of writes and deletes, from the query and (for deletes) the body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sampan.api.errors import BadRequest, Cause, Object, StatusError, invalid

from .exchange import Request

FIELD_VALIDATION = ("Ignore", "Strict", "Warn")
PROPAGATION = ("Background", "Foreground", "Orphan")
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


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    grace_s: int | None = None
    propagation: str = ""
    dry_run: bool = False
    uid: str = ""
    """Precondition, "" for none."""
    resource_version: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)


def delete_options(request: Request, body: Any) -> DeleteOptions:
    """DeleteOptions from the body, or from the query where the body does not say."""
    if body is not None and not isinstance(body, dict):
        raise BadRequest("the object provided is unrecognized (must be of type DeleteOptions)")
    if body and body.get("kind", "DeleteOptions") not in ("DeleteOptions", ""):
        raise BadRequest(f"{body['kind']} cannot be handled as a DeleteOptions: no such conversion")
    return parse_delete_options(_merged(request, body or {}))


def _merged(request: Request, body: Object) -> Object:
    raw = dict(body)
    if request.query:
        if "gracePeriodSeconds" not in raw and (grace := request.param("gracePeriodSeconds")):
            try:
                raw["gracePeriodSeconds"] = int(grace)
            except ValueError:
                raise BadRequest(f'strconv.ParseInt: parsing "{grace}": invalid syntax') from None
        if "propagationPolicy" not in raw and (policy := request.param("propagationPolicy")):
            raw["propagationPolicy"] = policy
        if "orphanDependents" not in raw and (orphan := request.param("orphanDependents")):
            raw["orphanDependents"] = orphan in ("true", "1")
        if "dryRun" not in raw and (dry := request.query.get("dryRun")):
            raw["dryRun"] = list(dry)
    return raw


def parse_delete_options(raw: Object) -> DeleteOptions:
    """Check a DeleteOptions object; raises BadRequest for types, Invalid for values."""
    grace = raw.get("gracePeriodSeconds")
    policy = raw.get("propagationPolicy")
    orphan = raw.get("orphanDependents")
    dry_run = raw.get("dryRun") or []
    preconditions = raw.get("preconditions") or {}
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        raise _wrong_type("gracePeriodSeconds", "int64")
    if not isinstance(preconditions, dict):
        raise _wrong_type("preconditions", "v1.Preconditions")
    if not isinstance(dry_run, list):
        raise _wrong_type("dryRun", "[]string")
    causes = _dry_run_causes(dry_run)
    if policy is not None and orphan is not None:
        causes.append(
            Cause(
                "propagationPolicy",
                f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be '
                "both set",
            )
        )
    elif policy is not None and policy not in PROPAGATION:
        causes.append(
            Cause(
                "propagationPolicy",
                f'Unsupported value: "{policy}": supported values: '
                '"Background", "Foreground", "Orphan"',
                "FieldValueNotSupported",
            )
        )
    if causes:
        raise invalid(META_GROUP, "DeleteOptions", "", causes)
    if policy is None and orphan is not None:
        policy = "Orphan" if orphan else "Background"
    return DeleteOptions(
        grace_s=grace,
        propagation=policy or "",
        dry_run=bool(dry_run),
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        raw=raw,
    )


def _wrong_type(field_name: str, kind: str) -> StatusError:
    return BadRequest(
        f"DeleteOptions cannot be handled: json: cannot unmarshal into Go struct field "
        f"DeleteOptions.{field_name} of type {kind}"
    )
