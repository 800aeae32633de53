"""Specs of persistent volume claims, wherever they stand: claims, templates, ephemeral volumes."""

from __future__ import annotations

from sampan.wire.quantity import QuantityError, parse

from ... import fields
from ...errors import Cause, Object
from ...selectors import validate_label_selector
from ..formats import (
    NOT_POSITIVE,
    check_annotations,
    check_label,
    check_labels,
    check_subdomain,
)

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
SHORT_MODES = {
    "ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}  # fmt: skip
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def access_modes_text(modes: list[str] | None) -> str:
    """ "RWO,ROX": each once, in upstream's order."""
    return ",".join(text for mode, text in SHORT_MODES.items() if mode in (modes or ()))


def class_name(obj: Object) -> str:
    """The storage class of a claim or volume, by annotation or field."""
    annotations = obj["metadata"].get("annotations") or {}
    if CLASS_ANNOTATION in annotations:
        text: str = annotations[CLASS_ANNOTATION]
        return text
    return (obj.get("spec") or {}).get("storageClassName") or ""


def check_access_modes(modes: list[str], path: str, out: list[Cause]) -> None:
    for mode in modes:
        if mode not in ACCESS_MODES:
            out.append(fields.not_supported(path, mode, ACCESS_MODES))
    known = {mode for mode in modes if mode in ACCESS_MODES}
    if "ReadWriteOncePod" in known and len(known) > 1:
        why = "may not use ReadWriteOncePod with other access modes"
        out.append(fields.forbidden(path, why))


def check_positive_quantity(value: object, path: str, out: list[Cause]) -> None:
    try:
        quantity = parse(value)  # type: ignore[arg-type]
    except QuantityError as error:
        out.append(fields.invalid(path, value, str(error)))
        return
    if quantity.nanos <= 0:
        out.append(fields.invalid(path, str(quantity), NOT_POSITIVE))


def check_claim_spec(spec: Object, path: str, out: list[Cause]) -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        why = "at least 1 access mode is required"
        out.append(fields.required(f"{path}.accessModes", why))
    if spec.get("selector") is not None:
        out += validate_label_selector(spec["selector"], f"{path}.selector")
    check_access_modes(modes, f"{path}.accessModes", out)
    where = f"{path}.resources[storage]"
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        out.append(fields.required(where))
    else:
        check_positive_quantity(size, where, out)
    if spec.get("storageClassName"):
        check_subdomain(spec["storageClassName"], f"{path}.storageClassName", out)
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        out.append(fields.not_supported(f"{path}.volumeMode", mode, VOLUME_MODES))
    for name in ("dataSource", "dataSourceRef"):
        if spec.get(name) is not None:
            _check_data_source(spec[name], f"{path}.{name}", out)
    _check_sources_agree(spec.get("dataSource"), spec.get("dataSourceRef"), path, out)
    if spec.get("volumeAttributesClassName"):
        where = f"{path}.volumeAttributesClassName"
        check_subdomain(spec["volumeAttributesClassName"], where, out)


def _check_data_source(source: Object, path: str, out: list[Cause]) -> None:
    for name in ("name", "kind"):
        if not source.get(name):
            out.append(fields.required(f"{path}.{name}"))
    group = source.get("apiGroup") or ""
    if not group and source.get("kind") != "PersistentVolumeClaim":
        why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        out.append(fields.invalid(path, source.get("kind") or "", why))
    elif group:
        check_subdomain(group, f"{path}.apiGroup", out)
    if source.get("namespace"):
        check_label(source["namespace"], f"{path}.namespace", out)


def _check_sources_agree(
    source: Object | None, reference: Object | None, path: str, out: list[Cause]
) -> None:
    if source is None or reference is None:
        return
    # The value upstream shows is a path without contents.
    if reference.get("namespace"):
        why = "may not be specified when dataSourceRef.namespace is specified"
        out.append(fields.invalid(path, {}, why))
    elif any(source.get(name) != reference.get(name) for name in ("apiGroup", "kind", "name")):
        out.append(fields.invalid(path, {}, "must match dataSourceRef"))


def check_claim_template(template: Object, path: str, out: list[Cause]) -> None:
    metadata = template.get("metadata") or {}
    check_annotations(metadata.get("annotations"), f"{path}.metadata.annotations", out)
    check_labels(metadata.get("labels"), f"{path}.metadata.labels", out)
    for name in metadata:
        if name not in ("labels", "annotations"):
            out.append(fields.forbidden(f"{path}.metadata.{name}", "cannot be set"))
    check_claim_spec(template.get("spec") or {}, f"{path}.spec", out)
