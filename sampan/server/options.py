"""Options of writes, from the query. Those of deletions are in `deleteoptions`."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from sampan.api import fields
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
    field_validation_asked: str = ""
    """As the client has said it, "" if it has not."""

    @property
    def manager(self) -> str:
        """Who owns what this write changes (metadata.managedFields)."""
        return manager_name(self.field_manager, self.user_agent)


DEFAULTS = WriteOptions()


@lru_cache(maxsize=256)
def _of_agent(user_agent: str) -> WriteOptions:
    """What a client without options says; there are few different clients."""
    return WriteOptions(user_agent=user_agent)


def write_options(request: Request, kind: str, *, apply: bool = False) -> WriteOptions:
    """The options of a write; `kind` is upstream's name for them, for the error text. `apply`: are
    they of an apply, which must say who applies? Raises Invalid, in the order of upstream's
    ValidatePatchOptions."""
    agent = request.headers.get("user-agent", "")
    if not request.query and not apply:
        return _of_agent(agent)
    asked = request.param("fieldValidation") or ""
    validation = asked or "Warn"
    manager, force = request.param("fieldManager"), flag(request, "force")
    causes: list[Cause] = []
    if apply and not manager:
        causes.append(fields.required("fieldManager", "is required for apply patch"))
    if kind == "PatchOptions" and not apply and force is not None:
        causes.append(fields.forbidden("force", "may not be specified for non-apply patch"))
    causes += _manager_causes(manager)
    dry_run = request.query.get("dryRun") or []
    if any(value != "All" for value in dry_run):
        causes.append(fields.not_supported("dryRun", dry_run, ("All",)))
    if validation not in FIELD_VALIDATION:
        causes.append(fields.not_supported("fieldValidation", validation, FIELD_VALIDATION))
    if causes:
        raise invalid(META_GROUP, kind, "", causes)
    return WriteOptions(
        dry_run=bool(dry_run),
        field_validation=validation,
        field_manager=manager,
        force=bool(force),
        user_agent=agent,
        field_validation_asked=asked,
    )


def _manager_causes(manager: str) -> list[Cause]:
    """Upstream's ValidateFieldManager."""
    causes = []
    if len(manager.encode(errors="replace")) > MANAGER_LENGTH:
        causes.append(fields.too_long("fieldManager", manager, MANAGER_LENGTH))
    if not manager.isprintable():
        at = 0
        for letter in manager:
            if not letter.isprintable():
                why = f"invalid character U+{ord(letter):04X} (at position {at})"
                causes.append(fields.invalid("fieldManager", manager, why))
            at += len(letter.encode(errors="replace"))
    return causes
