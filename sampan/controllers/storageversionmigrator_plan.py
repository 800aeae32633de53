"""Which migration is next, and what is said of it and of its custom resource's definition. Pure.

Source: KEP-4192, upstream's pkg/controller/storageversionmigrator; reasons and messages are its.
"""

from __future__ import annotations

from collections.abc import Iterable

from sampan.api.errors import Object
from sampan.api.kinds.apiextensions.customresourcedefinition import storage_version
from sampan.api.kinds.storagemigration.storageversionmigration import FAILED, SUCCEEDED
from sampan.api.times import format_time

from .runtime.conditions import condition, without

RUNNING = "Running"
MIGRATING = "StorageMigrating"
"""The condition of a definition whose objects are being written anew."""
_SUCCESS = "The migration has succeeded and the stored versions have been updated"
_MISMATCH = (
    "The migration has succeeded but the stored versions have not been updated due to a generation "
    "mismatch"
)


def key_of(migration: Object) -> str:
    """What it migrates, named as the definition of a custom resource is."""
    wanted = migration["spec"]["resource"]
    return f"{wanted['resource']}.{wanted['group']}"


def is_true(obj: Object, kind: str) -> bool:
    found = condition((obj.get("status") or {}).get("conditions"), kind)
    return found is not None and found.get("status") == "True"


def is_over(migration: Object) -> bool:
    return is_true(migration, SUCCEEDED) or is_true(migration, FAILED)


def is_running(migration: Object) -> bool:
    """It has begun, and says when: who writes its status may say the one without the other."""
    return is_true(migration, RUNNING) and bool(migration["status"].get("resourceVersion"))


def next_of(migrations: Iterable[Object]) -> Object | None:
    """Of the migrations of one resource: the one that runs, or else the oldest that has not."""
    left = [item for item in migrations if not is_over(item)]
    return min(left, key=_turn, default=None)


def _turn(migration: Object) -> tuple[bool, str, str]:
    meta = migration["metadata"]
    return not is_running(migration), meta["creationTimestamp"], meta["name"]


def started(migration: Object, version: str, now_s: float) -> Object:
    """The status of a migration that begins; what is written after `version` needs none."""
    said = _condition(RUNNING, "MigrationRunning", "The migration is running", now_s)
    return {"resourceVersion": version, "conditions": [*_others(migration, RUNNING), said]}


def ended(migration: Object, why: str, now_s: float) -> Object:
    """The status of one that has succeeded, or failed if there is a reason why."""
    kind = FAILED if why else SUCCEEDED
    status = migration.get("status") or {}
    conditions = []
    for item in status.get("conditions") or ():
        if item["type"] == RUNNING:
            item = _condition(RUNNING, "MigrationCompleted", "Migration completed", now_s, "False")
        conditions.append(item)
    conditions.append(_condition(kind, f"StorageVersionMigration{kind}", why, now_s))
    return {**status, "conditions": conditions}


def definition_started(definition: Object, name: str, now_s: float) -> Object:
    """The status of a definition whose objects the migration `name` is about to write."""
    message = f"Migration {name} is running"
    known = condition((definition.get("status") or {}).get("conditions"), MIGRATING)
    generation = definition["metadata"].get("generation", 0)
    if known is not None and (
        (known.get("message"), known.get("status"), known.get("observedGeneration"))
        == (message, "True", generation)
    ):
        return dict(definition["status"])
    return _said_of(definition, "True", "MigrationRunning", message, now_s)


def definition_ended(definition: Object, succeeded: bool, now_s: float) -> Object:
    """The status of a definition whose migration is over; as it is if that has been said.

    Old versions are forgotten only if everything was written by the definition as it is now. One
    that failed leaves objects in them: there upstream forgets them, too, and they cannot be read
    once somebody believes it."""
    known = condition((definition.get("status") or {}).get("conditions"), MIGRATING)
    if known is None or known.get("status") != "True":
        return dict(definition.get("status") or {})
    if not succeeded:
        text = "The migration has failed"
        return _said_of(definition, "False", "MigrationFailed", text, now_s)
    current = known.get("observedGeneration") == definition["metadata"].get("generation", 0)
    text = _SUCCESS if current else _MISMATCH
    status = _said_of(definition, "False", "MigrationSucceeded", text, now_s)
    if current:
        status["storedVersions"] = [storage_version(definition["spec"])]
    return status


def _said_of(definition: Object, state: str, reason: str, message: str, now_s: float) -> Object:
    said = _condition(MIGRATING, reason, message, now_s, state)
    said["observedGeneration"] = definition["metadata"].get("generation", 0)
    conditions = [*_others(definition, MIGRATING), said]
    return {**(definition.get("status") or {}), "conditions": conditions}


def _others(obj: Object, kind: str) -> list[Object]:
    return without((obj.get("status") or {}).get("conditions"), kind)


def _condition(kind: str, reason: str, message: str, now_s: float, state: str = "True") -> Object:
    return {
        "type": kind,
        "status": state,
        "lastTransitionTime": format_time(now_s),
        "reason": reason,
        "message": message,
    }
