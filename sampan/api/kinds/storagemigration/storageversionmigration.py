"""StorageVersionMigration (storagemigration.k8s.io/v1beta1, KEP-4192): all objects of a resource
are to be stored anew, in the version (and by the key) that new ones are stored in.

Upstream serves it where its feature gate is on; here it always is.
"""

from __future__ import annotations

import re

from ... import fields
from ...descriptor import STATUS_ALONE, Kind
from ...errors import Cause, Object
from ...names import label_1035_problems, subdomain_problems
from ..conditions import check_conditions
from ..printing import CREATED_COLUMNS, condition_status, created_cells

_VERSION = re.compile("[1-9][0-9]*")
"""What a resourceVersion looks like (apimachinery's util/resourceversion)."""
SUCCEEDED, FAILED = "Succeeded", "Failed"


def default(obj: Object) -> None:
    """Nothing is left out of a spec in Go's form."""
    resource = obj.setdefault("spec", {}).setdefault("resource", {})
    resource.setdefault("group", "")
    resource.setdefault("resource", "")
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    asked = obj["spec"]["resource"]
    plural, group = asked.get("resource") or "", asked.get("group") or ""
    if not plural:
        out.append(fields.required("spec.resource.resource", "resource is required to be set"))
    elif problems := label_1035_problems(plural):
        out.append(fields.invalid("spec.resource.resource", plural, ",".join(problems)))
    if group and (problems := subdomain_problems(group)):
        out.append(fields.invalid("spec.resource.group", group, ",".join(problems)))
    if old is not None:
        out += fields.unchanged("spec", obj["spec"], old.get("spec"))
    return out


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status, before = obj.get("status") or {}, (old or {}).get("status") or {}
    version, was = status.get("resourceVersion") or "", before.get("resourceVersion") or ""
    if version and not _VERSION.fullmatch(version):
        why = f"resource version is not well formed: {version}"
        out.append(fields.invalid("status.resourceVersion", version, why))
    conditions = status.get("conditions") or []
    check_conditions(conditions, "status.conditions", out)
    if was and was != version:
        out.append(fields.immutable("status.resourceVersion", version))
    succeeded, failed = _holds(obj, SUCCEEDED), _holds(obj, FAILED)
    problems = []
    if succeeded and failed:
        problems.append("Both success and failed conditions cannot be true at the same time")
    if old is not None and _holds(old, SUCCEEDED) and not succeeded:
        problems.append("Success condition cannot be set to false once it is true")
    if old is not None and _holds(old, FAILED) and not failed:
        problems.append("Failed condition cannot be set to false once it is true")
    out += [fields.invalid("status.conditions", conditions, why) for why in problems]
    return out


def _holds(obj: Object, kind: str) -> bool:
    return condition_status(obj, kind) == "True"


KIND = Kind(
    group="storagemigration.k8s.io",
    version="v1beta1",
    kind="StorageVersionMigration",
    storage="storageversionmigrations",
    generation=False,
    status_keeps=STATUS_ALONE,
    default=default,
    validate=validate,
    validate_status=validate_status,
    columns=CREATED_COLUMNS,
    cells=created_cells,
)
