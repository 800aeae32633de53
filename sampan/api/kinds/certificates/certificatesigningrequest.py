"""CertificateSigningRequest (certificates.k8s.io/v1)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from sampan.wire.pem import read_request

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
DECISIONS = ("Approved", "Denied")
STATES = ("True", "False", "Unknown")
PEM_BLOCK = re.compile(rb"-----BEGIN ([^-\n]+)-----")
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
    if why := _request_problem(spec.get("request") or ""):
        out.append(fields.invalid("spec.request", spec.get("request") or "", why))
    usages = spec.get("usages") or []
    if not usages:
        out.append(fields.required("spec.usages"))
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


def _request_problem(text: str) -> str:
    """Why this is no PKCS#10 request with a good signature; "" if it is one."""
    try:
        pem = base64.b64decode(text, validate=True)
    except ValueError:
        pem = b""
    try:
        der = read_request(pem)
    except ValueError as error:
        return str(error)
    # Imported with the first request: it takes a while.
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        asked = x509.load_der_x509_csr(der)
        good = asked.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        return str(error) or "malformed certificate request"
    return "" if good else "the signature does not match the key"


def _certificate_problem(text: str) -> str:
    """Why these are not PEM certificates and nothing else; "" if they are."""
    try:
        pem = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pem = b""
    kinds = {found.decode("latin-1") for found in PEM_BLOCK.findall(pem)}
    if not kinds:
        return "must contain at least one CERTIFICATE PEM block"
    for other in sorted(kinds - {"CERTIFICATE"}):
        return f"only CERTIFICATE PEM blocks are allowed, found {fields.quote(other)}"
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        return str(error) or "malformed certificate"
    return ""


def keep_approval(obj: Object, old: Object) -> None:
    """A write to /status: what was approved or denied stays as it was, word for word."""
    obj["spec"] = old.get("spec") or {}
    before = (old.get("status") or {}).get("conditions") or ()
    now = (obj.get("status") or {}).get("conditions") or []
    for kind in DECISIONS:
        was = [item for item in before if item.get("type") == kind]
        places = [at for at, item in enumerate(now) if item.get("type") == kind]
        if len(was) == len(places):
            for at, item in zip(places, was, strict=True):
                now[at] = item


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    """A write to /status: certificates and failures; deciding is for /approval."""
    out = validate_conditions(obj, old)
    status, before = obj.get("status") or {}, (old or {}).get("status") or {}
    for kind in DECISIONS:
        if _count(status, kind) > _count(before, kind):
            why = f'updates may not add a condition of type "{kind}"'
            out.append(fields.forbidden("status.conditions", why))
    given, certificate = status.get("certificate") or "", before.get("certificate") or ""
    if given != certificate:
        if why := _certificate_problem(given) if given else "":
            out.append(fields.invalid("status.certificate", "<certificate data>", why))
        if certificate:
            why = "updates may not modify existing certificate content"
            out.append(fields.forbidden("status.certificate", why))
    return out


def validate_conditions(obj: Object, old: Object | None) -> list[Cause]:
    """A write to /approval or /status: decisions and failures are added, never taken back."""
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
        elif state not in (STATES[:1] if kind in FINAL else STATES):
            allowed = STATES[:1] if kind in FINAL else sorted(STATES)
            out.append(fields.not_supported(f"{path}.status", state, allowed))
        if kind in DECISIONS and {*DECISIONS} - {kind} <= seen:
            why = "Approved and Denied conditions are mutually exclusive"
            out.append(fields.invalid("status.conditions", kind, why))
        if kind in seen:
            out.append(fields.duplicate(f"{path}.type", kind))
        seen.add(kind)
    for kind in FINAL:
        if _count(status, kind) < _count(before, kind):
            why = f'updates may not remove a condition of type "{kind}"'
            out.append(fields.forbidden("status.conditions", why))
    return out


def _count(status: Object, kind: str) -> int:
    return sum(item.get("type") == kind for item in status.get("conditions") or ())


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
    prepare_parts={"status": keep_approval},
    validate_status=validate_status,
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
