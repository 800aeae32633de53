"""ClusterTrustBundle (certificates.k8s.io/v1beta1, KEP-3257): the trust anchors of a signer.

Upstream serves it where its feature gate is on; here it always is, as projected volumes read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.wire.pem import Block, read_blocks

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...names import subdomain_problems
from ..printing import NAME, NONE, name
from .certificatesigningrequest import check_signer

MAX_BUNDLE = 1 << 20
"""Bytes of a trust bundle (MaxTrustBundleSize)."""
OMITTED = "<value omitted>"


def validate(obj: Object, old: Object | None) -> list[Cause]:
    spec = obj.get("spec") or {}
    before = (old or {}).get("spec") or {}
    signer, own = spec.get("signerName") or "", obj["metadata"].get("name") or ""
    out = [fields.invalid("metadata.name", own, why) for why in name_problems(own, signer)]
    if signer:
        check_signer(signer, "spec.signerName", out)
    text = spec.get("trustBundle") or ""
    if old is None or text != (before.get("trustBundle") or ""):
        _check_bundle(text, "spec.trustBundle", out)
    if old is not None and signer != (before.get("signerName") or ""):
        out.append(fields.immutable("spec.signerName", signer))
    return out


def name_problems(own: str, signer: str) -> list[str]:
    """Complaints about a bundle's name, which begins with the name of its signer, if it has one."""
    if not signer:
        if ":" in own:
            return ['ClusterTrustBundle without signer name must not have ":" in its name']
        return subdomain_problems(own)
    start = signer.replace("/", ":") + ":"
    if not own.startswith(start):
        return [f"ClusterTrustBundle for signerName {signer} must be named with prefix {start}"]
    return subdomain_problems(own.removeprefix(start))


def signer_in(own: str) -> str:
    """The signer that a bundle's name speaks of, "" for none."""
    return own.rpartition(":")[0].replace(":", "/")


def _check_bundle(text: str, path: str, out: list[Cause]) -> None:
    if len(text.encode()) > MAX_BUNDLE:
        out.append(fields.too_long(path, "", MAX_BUNDLE))
        return
    places: dict[bytes, list[int]] = {}
    bad = False
    for position, block in enumerate(read_blocks(text)):
        why = _problem(block)
        if why:
            bad = True
            out.append(fields.invalid(path, OMITTED, f"entry {position} {why}"))
        places.setdefault(block.data, []).append(position)
    if bad:
        return
    if not places:
        out.append(fields.invalid(path, OMITTED, "at least one trust anchor must be provided"))
    for found in places.values():
        if len(found) > 1:
            shown = " ".join(map(str, found))
            why = f"duplicate trust anchor (indices [{shown}])"
            out.append(fields.invalid(path, OMITTED, why))


def _problem(block: Block) -> str:
    """Why a block is no trust anchor, "" if it is one."""
    if block.label != "CERTIFICATE":
        return f"has bad block type: {block.label}"
    if block.headers:
        return "has PEM block headers"
    # Imported with the first bundle: it takes a while.
    from cryptography import x509

    try:
        found = x509.load_der_x509_certificate(block.data)
        basic = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return "does not have the CA bit set"
    except (ValueError, x509.DuplicateExtension):
        return "does not parse as X.509"
    return "" if basic.ca else "does not have the CA bit set"


def selectable(obj: Object) -> Mapping[str, str]:
    return {"spec.signerName": (obj.get("spec") or {}).get("signerName") or ""}


def cells(obj: Object, now_s: float) -> list[Any]:
    return [name(obj), (obj.get("spec") or {}).get("signerName") or NONE]


KIND = Kind(
    group="certificates.k8s.io",
    version="v1beta1",
    kind="ClusterTrustBundle",
    storage="clustertrustbundles",
    validate=validate,
    fields=selectable,
    columns=(NAME, Column("SignerName", "string", "Whose trust anchors they are.")),
    cells=cells,
    name_rule="path",
)
