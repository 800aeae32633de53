"""StorageVersionMigration: upstream's table (pkg/apis/storagemigration/validation)."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.kinds.storagemigration.storageversionmigration import KIND

LABEL = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


def migration(group: str = "a", plural: str = "b", version: str = "", **states: str) -> Any:
    conditions = [
        {"type": kind, "status": state, "reason": "R", "message": "", "lastTransitionTime": "t"}
        for kind, state in states.items()
    ]
    status = {"conditions": conditions} | ({"resourceVersion": version} if version else {})
    resource = {"group": group, "resource": plural}
    return {"metadata": {"name": "m"}, "spec": {"resource": resource}, "status": status}


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (migration("non-empty", "non-empty"), None, []),
        (migration(""), None, []),
        (migration("", ""), None,
         ["spec.resource.resource: Required value: resource is required to be set"]),
        (migration("a", "."), None, [f'spec.resource.resource: Invalid value: ".": {LABEL}']),
        (migration("-"), None, [f'spec.resource.group: Invalid value: "-": {SUBDOMAIN}']),
        (migration(), migration(), []),
        (migration("c"), migration(),
         ['spec: Invalid value: {"resource":{"group":"c","resource":"b"}}: field is immutable']),
    ],
)  # fmt: skip
def test_what_is_migrated_is_named_and_stays(new: Any, old: Any, expected: list[str]) -> None:
    assert [str(cause) for cause in KIND.validate(new, old)] == expected


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (migration(version="123", Running="True"), migration(), ""),
        (migration(version="1", Running="False", Succeeded="True"), migration(version="1"), ""),
        (migration(Failed="True"), migration(), ""),
        (migration(version="456"), migration(version="123"),
         'status.resourceVersion: Invalid value: "456": field is immutable'),
        (migration(version="abc"), migration(),
         'status.resourceVersion: Invalid value: "abc": resource version is not well formed: abc'),
        (migration(version="012"), migration(), "resource version is not well formed: 012"),
        (migration(Succeeded="True", Failed="True"), migration(),
         "Both success and failed conditions cannot be true at the same time"),
        (migration(Succeeded="False"), migration(Succeeded="True"),
         "Success condition cannot be set to false once it is true"),
        (migration(Failed="False"), migration(Failed="True"),
         "Failed condition cannot be set to false once it is true"),
        (migration(Running="Maybe"), migration(), 'Unsupported value: "Maybe"'),
    ],
)  # fmt: skip
def test_what_is_over_stays_over(new: Any, old: Any, expected: str) -> None:
    found = [str(cause) for cause in KIND.validate_status(new, old)]
    assert len(found) == bool(expected)
    assert not expected or expected in found[0]
