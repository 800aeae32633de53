"""Volumes and claims: what is refused, what may still change, what goes into a status."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.resources import resource

Object = dict[str, Any]
BETA = "volume.beta.kubernetes.io/storage-class"
CLAIM = {
    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
    "volumeMode": "Filesystem",
}  # fmt: skip
ONCE = (
    "spec: Forbidden: spec is immutable after creation except resources.requests and "
    "volumeAttributesClassName for bound claims"
)


def claim(annotation: str = "", status: Object | None = None, **spec: Any) -> Object:
    meta: Object = {"name": "x"}
    if annotation:
        meta["annotations"] = {BETA: annotation}
    return {"metadata": meta, "spec": {**copy.deepcopy(CLAIM), **spec}, "status": status or {}}


def sized(size: str, **more: str) -> Object:
    return {"requests": {"storage": size, **more}}


BOUND = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
CHANGES: list[tuple[Object, Object, list[str]]] = [
    (claim(), claim(volumeName="v"), []),
    (claim(volumeName="v"), claim(), [ONCE]),
    (claim(), claim(storageClassName="a"), []),
    (claim(storageClassName="a"), claim(storageClassName="b"), [ONCE]),
    (claim("a"), claim("a", storageClassName="a"), []),
    (claim("a"), claim("a", storageClassName="b"), [ONCE]),
    (
        claim("a"), claim("b"),
        [f'metadata.annotations.{BETA}: Invalid value: "b": field is immutable'],
    ),
    (claim(), claim(resources=sized("3Gi")), [ONCE]),
    (claim(status=BOUND), claim(status=BOUND, resources=sized("3Gi")), []),
    (claim(status=BOUND), claim(status=BOUND, resources=sized("3Gi", other="1")), [ONCE]),
    (
        claim(status=BOUND), claim(status=BOUND, resources=sized("1Gi")),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
    ),
    (claim(volumeAttributesClassName="a"), claim(volumeAttributesClassName="b"), []),
    (claim(volumeAttributesClassName="a"), claim(), []),
    (
        claim(volumeAttributesClassName="a", status={"currentVolumeAttributesClassName": "a"}),
        claim(),
        [
            "spec.volumeAttributesClassName: Forbidden: update to nil is forbidden when "
            "status.currentVolumeAttributesClassName is not nil"
        ],
    ),
    (
        claim(), claim(volumeMode="Block"),
        [ONCE, 'volumeMode: Invalid value: "Block": field is immutable'],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES)
def test_what_of_a_claim_may_change(old: Object, new: Object, expected: list[str]) -> None:
    causes = resource("persistentvolumeclaims").rules.validate(new, old)
    assert [str(cause).partition("\n")[0] for cause in causes] == expected


def test_sources_of_a_claim_agree() -> None:
    rules = resource("persistentvolumeclaims").rules
    one, other = ({"kind": "PersistentVolumeClaim", "name": name} for name in "ab")

    def found(**spec: Any) -> list[str]:
        return [str(cause) for cause in rules.validate(claim(**spec), None)]

    assert found(dataSource=one, dataSourceRef=one) == []
    assert found(dataSource=one, dataSourceRef=other) == [
        "spec: Invalid value: {}: must match dataSourceRef"
    ]
    assert found(dataSource=one, dataSourceRef={**one, "namespace": "n"}) == [
        "spec: Invalid value: {}: may not be specified when dataSourceRef.namespace is specified"
    ]
    assert rules.prepare is not None
    again = claim(dataSource=one)
    rules.prepare(again, claim(dataSource=one, dataSourceRef=one))
    assert again["spec"]["dataSourceRef"] == one


def test_status_of_a_claim() -> None:
    status = {
        "capacity": {"storage": "-1"},
        "allocatedResourceStatuses": {"storage": "Odd", "cpu": "NodeResizePending"},
        "allocatedResources": {"memory": "1", "storage": "1Gi"},
    }
    causes = resource("persistentvolumeclaims").rules.validate_status(claim(status=status), None)
    only = 'Unsupported value: {}: supported values: "storage"'
    assert [str(cause) for cause in causes] == [
        "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
        'status.allocatedResourceStatus: Unsupported value: "storage": supported values: '
        '"ControllerResizeFailed", "ControllerResizeInProgress", "NodeResizeFailed", '
        '"NodeResizeInProgress", "NodeResizePending"',
        "status.allocatedResourceStatus: " + only.format('"cpu"'),
        "status.allocatedResources: " + only.format('"memory"'),
    ]


def volume(**spec: Any) -> Object:
    base = {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
    }  # fmt: skip
    return {"metadata": {"name": "x"}, "spec": {**base, **spec}}


def at(key: str) -> Object:
    expression = {"key": key, "operator": "In", "values": ["a"]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


CSI = {"driver": "a.b", "volumeHandle": "h"}
SECRET = {"name": "s", "namespace": "n"}
ZONE, OLD_ZONE = "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (
            volume(hostPath={"path": "/"}, persistentVolumeReclaimPolicy="Recycle"), None,
            [
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a "
                "hostPath mount of '/'"
            ],
        ),
        (
            volume(csi={**CSI, "nodePublishSecretRef": {}}), None,
            [
                f"spec.csi.nodePublishSecretRef.{part}: Required value"
                for part in ("name", "namespace")
            ],
        ),
        (
            volume(hostPath={"path": "/a"}, volumeAttributesClassName=""), None,
            [
                "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                "spec.csi: Required value: has to be specified when using "
                "volumeAttributesClassName",
            ],
        ),
        (volume(csi={**CSI, "controllerExpandSecretRef": SECRET}), volume(csi=CSI), []),
        (
            volume(csi=CSI), volume(csi={**CSI, "controllerExpandSecretRef": SECRET}),
            [
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable "
                "after creation"
            ],
        ),
        (volume(csi=CSI, nodeAffinity=at(ZONE)), volume(csi=CSI, nodeAffinity=at(OLD_ZONE)), []),
        (volume(csi=CSI, nodeAffinity=at(ZONE)), volume(csi=CSI), []),
        (
            volume(csi=CSI), volume(csi=CSI, volumeAttributesClassName="a"),
            [
                "spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is "
                "forbidden"
            ],
        ),
    ],
)  # fmt: skip
def test_volumes(new: Object, old: Object | None, expected: list[str]) -> None:
    causes = resource("persistentvolumes").rules.validate(new, old)
    assert [str(cause).partition("\n")[0] for cause in causes] == expected


def test_the_place_of_a_volume_stays() -> None:
    rules = resource("persistentvolumes").rules
    old = volume(csi=CSI, nodeAffinity=at(ZONE))
    (cause,) = rules.validate(volume(csi=CSI, nodeAffinity=at(OLD_ZONE)), old)
    assert str(cause).endswith("field is immutable, except for updating from beta label to GA")


def test_a_namespace_is_finalized_by_known_names() -> None:
    rules = resource("namespaces").rules
    obj = {"metadata": {"name": "x"}, "spec": {"finalizers": ["kubernetes", "mine"]}}
    why = (
        'Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified'
    )
    assert [str(cause) for cause in rules.validate(obj, None)] == [f"spec.finalizers: {why}"]
    assert rules.validate(obj, obj) == []
    assert [str(cause) for cause in rules.validate_parts["finalize"](obj, obj)] == [
        f"spec.finalizers[1]: {why}"
    ]
