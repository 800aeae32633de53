"""CertificateSigningRequests: approves those of nodes, signs what is approved, cleans up.

The cluster's CA key is read when the first certificate is to be signed, and kept.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource
from sampan.api.times import format_time, parse_time

from .certificates_plan import (
    NODE_PREFIX,
    SIGNERS,
    Subject,
    approval,
    has,
    kept_s,
    lifetime_s,
    own_addresses,
    refusal,
)
from .runtime.conditions import with_condition
from .runtime.controller import Context, Controller
from .runtime.queue import Request, Requeue

if TYPE_CHECKING:
    from cryptography import x509

# Clocks of nodes may be a little behind.
KEY_USES = ("digital signature", "key encipherment")
"""The usages of a request that speak of its key, not of what it proves (RFC 5280 4.2.1.3)."""
BACKDATE = timedelta(minutes=5)


class CertificateController(Controller):
    """Does nothing without a CA (`Options.ca_cert`, `Options.ca_key`)."""

    name = "certificate"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("certificatesigningrequests", "certificates.k8s.io")
        self.requests = self.informer(self.resource)
        self.nodes = self.informer(resource("nodes"))
        self.services = self.informer(resource("services"))
        self.endpoints = self.informer(resource("endpoints"))
        self._authority: tuple[x509.Certificate, Any] | None = None
        if context.options.ca_cert is not None and context.options.ca_key is not None:
            self.requests.on_change(self.add_changed)

    async def reconcile(self, request: Request) -> Requeue | None:
        found = self.requests.get("", request.name)
        if found is None:
            return None
        left_s = kept_s(found) + parse_time(found["metadata"]["creationTimestamp"])
        left_s -= self.clock.now()
        if left_s <= 0:
            await self._delete(found)
            return None
        if found["spec"]["signerName"] in SIGNERS and not (found.get("status") or {}).get(
            "certificate"
        ):
            await self._advance(found)
        return Requeue(left_s)

    async def _advance(self, found: Object) -> None:
        """Approve it, or sign it, or say why not."""
        if has(found, "Denied") or has(found, "Failed"):
            return
        pem = base64.b64decode(found["spec"]["request"])
        try:
            asked = load(pem)
        except ValueError as error:
            if has(found, "Approved"):
                await self._condition(
                    found, "Failed", "SignerValidationFailed", f"unable to parse csr: {error}"
                )
            return
        subject = subject_of(asked)
        if has(found, "Approved"):
            why = refusal(found, subject)
            if why:
                await self._condition(found, "Failed", "SignerValidationFailed", why)
                return
            certificate = base64.b64encode(self._sign(found, asked)).decode()
            status = {**(found.get("status") or {}), "certificate": certificate}
            await self.client.update(self.resource, {**found, "status": status}, "status")
            return
        name = subject.common_name.removeprefix(NODE_PREFIX)
        own = own_addresses(name, self.nodes.list(), self._server_addresses())
        message = approval(found, subject, own)
        if message:
            await self._condition(found, "Approved", "AutoApproved", message)

    def _server_addresses(self) -> set[str]:
        """Where the API server answers: the service `kubernetes` and what is behind it."""
        service = self.services.get("default", "kubernetes") or {"spec": {}}
        endpoints = self.endpoints.get("default", "kubernetes") or {}
        found = {*(service["spec"].get("clusterIPs") or ())}
        for subset in endpoints.get("subsets") or ():
            found |= {item["ip"] for item in subset.get("addresses") or ()}
        return found

    async def _condition(self, found: Object, kind: str, reason: str, message: str) -> None:
        now = format_time(self.clock.now())
        new = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        }
        status = found.get("status") or {}
        status = {**status, "conditions": with_condition(status.get("conditions"), new)}
        # Upstream's rule: only /approval may approve, only /status may fail.
        where = "approval" if kind == "Approved" else "status"
        await self.client.update(self.resource, {**found, "status": status}, where)

    async def _delete(self, found: Object) -> None:
        meta = found["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self.client.delete(self.resource, meta["name"], options=options)
        except NotFound:
            return

    def _sign(self, found: Object, asked: x509.CertificateSigningRequest) -> bytes:
        """The certificate, PEM. Raises OSError when the CA cannot be read."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        issuer, key = self._signer()
        now = datetime.fromtimestamp(self.clock.now(), UTC)
        until = min(now + timedelta(seconds=lifetime_s(found)), issuer.not_valid_after_utc)
        usages = found["spec"].get("usages") or ()
        builder = (
            x509.CertificateBuilder()
            .subject_name(asked.subject)
            .issuer_name(issuer.subject)
            .public_key(asked.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_extended_usage(usages), critical=False)
        )
        # A key usage without a use is not a certificate to OpenSSL 3.
        if set(KEY_USES) & set(usages):
            builder = builder.add_extension(_key_usage(usages), critical=True)
        names = _alternative_names(asked)
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _signer(self) -> tuple[x509.Certificate, Any]:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization

        if self._authority is None:
            options = self.context.options
            if options.ca_cert is None or options.ca_key is None:
                raise OSError("no CA to sign with")
            self._authority = (
                x509.load_pem_x509_certificate(options.ca_cert.read_bytes()),
                serialization.load_pem_private_key(options.ca_key.read_bytes(), None),
            )
        return self._authority


def load(pem: bytes) -> x509.CertificateSigningRequest:
    """A PKCS#10 request whose signature is good. Raises ValueError."""
    from cryptography import x509

    asked = x509.load_pem_x509_csr(pem)
    if not asked.is_signature_valid:
        raise ValueError("the signature does not match the key")
    return asked


def subject_of(asked: x509.CertificateSigningRequest) -> Subject:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def texts(oid: x509.ObjectIdentifier) -> list[str]:
        return [str(item.value) for item in asked.subject.get_attributes_for_oid(oid)]

    names = _alternative_names(asked) or ()
    kinds = (x509.DNSName, x509.IPAddress, x509.RFC822Name, x509.UniformResourceIdentifier)
    dns, ips, emails, uris = (
        tuple(str(item.value) for item in names if isinstance(item, kind)) for kind in kinds
    )
    common = texts(NameOID.COMMON_NAME)
    return Subject(
        common[0] if common else "", texts(NameOID.ORGANIZATION_NAME), dns, ips, emails, uris
    )


def _alternative_names(
    asked: x509.CertificateSigningRequest,
) -> x509.SubjectAlternativeName | None:
    from cryptography import x509

    try:
        return asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _key_usage(usages: Any) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=KEY_USES[0] in usages,
        content_commitment=False,
        key_encipherment=KEY_USES[1] in usages,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _extended_usage(usages: Any) -> x509.ExtendedKeyUsage:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    known = {
        "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
        "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    }
    return x509.ExtendedKeyUsage([oid for usage, oid in known.items() if usage in usages])
