"""CertificateSigningRequest (certificates.k8s.io/v1)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...names import label_problems, subdomain_problems
from ..printing import AGE, NAME, NONE, age, human_duration, name

USAGES = frozenset({
    "signing", "digital signature", "content commitment", "key encipherment", "key agreement",
    "data encipherment", "cert sign", "crl sign", "encipher only", "decipher only", "any",
    "server auth", "client auth", "code signing", "email protection", "s/mime", "ipsec end system",
    "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing", "microsoft sgc", "netscape sgc",
})  # fmt: skip
FINAL = ("Approved", "Denied", "Failed")
MIN_EXPIRATION_S = 600
MAX_SIGNER = 253 + 1 + 63 + 1 + 253
LEGACY_SIGNER = "kubernetes.io/legacy-unknown"


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("usages") is None:
        spec["usages"] = ["digital signature", "key encipherment"]
    obj.setdefault("status", {})


def prepare(obj: Object, old: Object | None) -> None:
    """The request is immutable; only metadata changes after it was made."""
    if old is not None:
        obj["spec"] = old.get("spec") or {}


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is not None:
        return out
    spec = obj["spec"]
    if not _is_pem_request(spec.get("request") or ""):
        text = "PEM block type must be CERTIFICATE REQUEST"
        out.append(fields.invalid("spec.request", spec.get("request") or "", text))
    usages = spec.get("usages") or []
    if not usages:
        out.append(fields.required("spec.usages", "usages must be specified"))
    for position, usage in enumerate(usages):
        path = f"spec.usages[{position}]"
        if usage not in USAGES:
            out.append(fields.not_supported(path, usage, sorted(USAGES)))
        if usage in usages[:position]:
            out.append(fields.duplicate(path, usage))
    signer = spec.get("signerName") or ""
    if signer == LEGACY_SIGNER:
        why = "the legacy signerName is not allowed via this API version"
        out.append(fields.invalid("spec.signerName", signer, why))
    else:
        check_signer(signer, "spec.signerName", out)
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < MIN_EXPIRATION_S:
        why = f"may not specify a duration less than {MIN_EXPIRATION_S} seconds (10 minutes)"
        out.append(fields.invalid("spec.expirationSeconds", seconds, why))
    return out


def check_signer(signer: str, path: str, out: list[Cause]) -> None:
    """A fully qualified signer name: domain/path."""
    if not signer:
        out.append(fields.required(path))
        return
    domain, slash, rest = signer.partition("/")
    if not slash or "/" in rest:
        why = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        out.append(fields.invalid(path, signer, why))
        return
    for why in label_problems(domain) if "." not in domain else subdomain_problems(domain):
        out.append(fields.invalid(path, domain, f"validating label {fields.quote(domain)}: {why}"))
    if "." not in domain:
        why = "should be a domain with at least two segments separated by dots"
        out.append(fields.invalid(path, domain, why))
    for why in subdomain_problems(rest):
        out.append(fields.invalid(path, rest, f"validating label {fields.quote(rest)}: {why}"))
    if len(signer) > MAX_SIGNER:
        out.append(fields.too_long(path, "", MAX_SIGNER))


def _is_pem_request(text: str) -> bool:
    try:
        pem = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return b"-----BEGIN CERTIFICATE REQUEST-----" in pem


def validate_conditions(obj: Object, old: Object | None) -> list[Cause]:
    """A write to /approval or /status: conditions are added, never taken back."""
    out: list[Cause] = []
    status, before = obj.get("status") or {}, (old or {}).get("status") or {}
    seen: set[str] = set()
    for position, item in enumerate(status.get("conditions") or ()):
        path, kind = f"status.conditions[{position}]", item.get("type") or ""
        if not kind:
            out.append(fields.required(f"{path}.type"))
        state = item.get("status") or ""
        if not state:
            out.append(fields.required(f"{path}.status"))
        elif kind in FINAL and state != "True":
            out.append(fields.not_supported(f"{path}.status", state, ("True",)))
        if kind in seen:
            out.append(fields.duplicate(f"{path}.type", kind))
        seen.add(kind)
    if {"Approved", "Denied"} <= seen:
        why = "Approved and Denied conditions are mutually exclusive"
        out.append(fields.invalid("status.conditions", "Denied", why))
    for kind in FINAL:
        was = [item for item in before.get("conditions") or () if item.get("type") == kind]
        now = [item for item in status.get("conditions") or () if item.get("type") == kind]
        if was and was != now:
            why = f'updates may not {"modify" if now else "remove"} a condition of type "{kind}"'
            out.append(fields.forbidden("status.conditions", why))
    certificate = before.get("certificate")
    if certificate and status.get("certificate") != certificate:
        out.append(fields.forbidden("status.certificate", "updates may not modify the certificate"))
    return out


def selectable(obj: Object) -> Mapping[str, str]:
    return {"spec.signerName": (obj.get("spec") or {}).get("signerName") or ""}


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    kinds = {item.get("type") for item in status.get("conditions") or ()}
    text = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    text += ",Failed" if "Failed" in kinds else ""
    text += ",Issued" if status.get("certificate") else ""
    seconds = spec.get("expirationSeconds")
    return [
        name(obj),
        age(obj, now_s),
        spec.get("signerName") or NONE,
        spec.get("username") or "",
        NONE if seconds is None else human_duration(seconds),
        text,
    ]


KIND = Kind(
    group="certificates.k8s.io",
    version="v1",
    kind="CertificateSigningRequest",
    short_names=("csr",),
    storage="certificatesigningrequests",
    generation=False,
    default=default,
    prepare=prepare,
    validate=validate,
    validate_status=validate_conditions,
    validate_parts={"approval": validate_conditions},
    fields=selectable,
    columns=(
        NAME,
        AGE,
        Column("SignerName", "string", "Who is asked to sign."),
        Column("Requestor", "string", "Who asks."),
        Column("RequestedDuration", "string", "How long the certificate shall hold."),
        Column("Condition", "string", "How far it has come."),
    ),
    cells=cells,
    name_rule="path",
)
