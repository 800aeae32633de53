"""Validation of volumes made of files the API holds: secrets, config maps, fields, tokens."""

from __future__ import annotations

from typing import Any

from .... import fields
from ....errors import Cause, Object
from ....selectors import validate_label_selector
from ...certificates.certificatesigningrequest import check_signer
from ...certificates.clustertrustbundle import name_problems, signer_in
from ...formats import check_file_mode, check_local_path
from .environment import check_field_ref, check_resource_ref

FILE_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations",
    "metadata.uid",
)  # fmt: skip
BUNDLE = "clusterTrustBundle"
MIN_TOKEN_S, MAX_TOKEN_S = 600, 1 << 32


def check_secret(source: Object, path: str, out: list[Cause]) -> None:
    if not source.get("secretName"):
        out.append(fields.required(f"{path}.secretName"))
    _check_keyed(source, path, out)


def check_config_map(source: Object, path: str, out: list[Cause]) -> None:
    if not source.get("name"):
        out.append(fields.required(f"{path}.name"))
    _check_keyed(source, path, out)


def _check_keyed(source: Object, path: str, out: list[Cause]) -> None:
    check_file_mode(source.get("defaultMode"), f"{path}.defaultMode", out)
    for position, item in enumerate(source.get("items") or ()):
        _check_item(item, f"{path}.items[{position}]", out)


def _check_item(item: Object, path: str, out: list[Cause]) -> None:
    if not item.get("key"):
        out.append(fields.required(f"{path}.key"))
    if not item.get("path"):
        out.append(fields.required(f"{path}.path"))
    check_local_path(item.get("path") or "", f"{path}.path", out)
    check_file_mode(item.get("mode"), f"{path}.mode", out)


def check_downward(source: Object, path: str, out: list[Cause]) -> None:
    check_file_mode(source.get("defaultMode"), f"{path}.defaultMode", out)
    for item in source.get("items") or ():
        _check_file(item, path, out)


def _check_file(item: Object, path: str, out: list[Cause]) -> None:
    """A downward API file; upstream names its fields without the item's index."""
    if not item.get("path"):
        out.append(fields.required(f"{path}.path"))
    check_local_path(item.get("path") or "", f"{path}.path", out)
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        check_field_ref(field, f"{path}.fieldRef", FILE_FIELDS, out)
        if resource is not None:
            why = "fieldRef and resourceFieldRef can not be specified simultaneously"
            out.append(fields.invalid(path, "resource", why))
    elif resource is not None:
        check_resource_ref(resource, f"{path}.resourceFieldRef", out, in_volume=True)
    else:
        why = "one of fieldRef and resourceFieldRef is required"
        out.append(fields.required(path, why))
    check_file_mode(item.get("mode"), f"{path}.mode", out)


def check_projected(source: Object, path: str, out: list[Cause]) -> None:
    check_file_mode(source.get("defaultMode"), f"{path}.defaultMode", out)
    seen: set[str] = set()
    for position, item in enumerate(source.get("sources") or ()):
        where = f"{path}.sources[{position}]"
        count = 0
        for kind in ("secret", "configMap", "downwardAPI", "serviceAccountToken",
                     BUNDLE):  # fmt: skip
            part = item.get(kind)
            if part is None:
                continue
            count += 1
            _check_projection(kind, part, path, where, out)
            for file, shown in _files(kind, part):
                if file in seen:
                    out.append(fields.invalid(path, shown, "conflicting duplicate paths"))
                seen.add(file)
        if count > 1:
            why = "may not specify more than 1 volume type per source"
            out.append(fields.forbidden(where, why))


def _files(kind: str, part: Object) -> list[tuple[str, Any]]:
    """(path, what an error about it shows) of a projection's files."""
    if kind == "serviceAccountToken":
        return []
    if kind == BUNDLE:
        return [(part.get("path") or "", part.get("path") or "")]
    found = []
    for item in part.get("items") or ():
        file = item.get("path")
        if file:
            found.append((file, file if kind == "downwardAPI" else part.get("name") or ""))
    return found


def _check_projection(kind: str, part: Object, path: str, source: str, out: list[Cause]) -> None:
    # Upstream's name for the path of a trust bundle is not the field's.
    where = f"{source}.{'clusterTrustBundlePEM' if kind == BUNDLE else kind}"
    if kind in ("secret", "configMap"):
        if not part.get("name"):
            out.append(fields.required(f"{where}.name"))
        for position, item in enumerate(part.get("items") or ()):
            _check_item(item, f"{where}.items[{position}]", out)
    elif kind == "downwardAPI":
        for item in part.get("items") or ():
            _check_file(item, where, out)
    elif kind == "serviceAccountToken":
        seconds = part.get("expirationSeconds") or 0
        if seconds < MIN_TOKEN_S:
            why = "may not specify a duration less than 10 minutes"
            out.append(fields.invalid(f"{where}.expirationSeconds", seconds, why))
        elif seconds > MAX_TOKEN_S:
            why = "may not specify a duration larger than 2^32 seconds"
            out.append(fields.invalid(f"{where}.expirationSeconds", seconds, why))
        if not part.get("path"):
            out.append(fields.required(f"{path}.path"))
        else:
            check_local_path(part["path"], f"{path}.path", out)
    else:
        _check_trust_bundle(part, where, out)


def _check_trust_bundle(part: Object, path: str, out: list[Cause]) -> None:
    name, signer = part.get("name"), part.get("signerName")
    if name is not None and signer is not None:
        out.append(fields.invalid(path, part, "only one of name and signerName may be used"))
    elif name is not None:
        if not name:
            out.append(fields.required(f"{path}.name", "must be a valid object name"))
        for why in name_problems(name, signer_in(name)):
            text = f"not a valid clustertrustbundlename: {why}"
            out.append(fields.invalid(f"{path}.name", name, text))
        if part.get("labelSelector") is not None:
            why = "labelSelector must be unset if name is specified"
            out.append(fields.invalid(f"{path}.labelSelector", part["labelSelector"], why))
    elif signer is None:
        out.append(fields.required(path, "either name or signerName must be specified"))
    else:
        if not signer:
            out.append(fields.required(f"{path}.signerName", "must be a valid signer name"))
        check_signer(signer, f"{path}.signerName", out)
        out += validate_label_selector(part.get("labelSelector"), f"{path}.labelSelector")
    if not part.get("path"):
        out.append(fields.required(f"{path}.path"))
    check_local_path(part.get("path") or "", f"{path}.path", out)
