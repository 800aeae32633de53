"""CertificateSigningRequests: approves those of nodes, signs what is approved, cleans up.

The cluster's CA key is read when the first certificate is to be signed, and kept.
"""

from __future__ import annotations

import base64

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource
from sampan.api.times import format_time

from .certificates_plan import (
    NODE_PREFIX,
    SIGNERS,
    Subject,
    access_review,
    gone_at_s,
    has,
    own_addresses,
    recognized,
    refusal,
    serving_approval,
    validity_s,
)
from .certificates_x509 import Authority, expires_s, issue, load, subject_of
from .runtime.conditions import with_condition
from .runtime.controller import Context, Controller
from .runtime.queue import Request, Requeue

REVIEWS = resource("subjectaccessreviews", "authorization.k8s.io")
APPROVED, FAILED = "AutoApproved", "SignerValidationFailure"
ASK_AGAIN_S = 60.0
"""How soon a node whose author lacks the right is asked about again: roles are not followed."""


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
        self._authority: Authority | None = None
        if context.options.ca_cert is not None and context.options.ca_key is not None:
            self.requests.on_change(self.add_changed)

    async def reconcile(self, request: Request) -> Requeue | None:
        found = self.requests.get("", request.name)
        if found is None:
            return None
        certificate = (found.get("status") or {}).get("certificate")
        ends_s = expires_s(base64.b64decode(certificate)) if certificate else None
        left_s = gone_at_s(found, ends_s) - self.clock.now()
        if left_s <= 0:
            await self._delete(found)
            return None
        ours = found["spec"]["signerName"] in SIGNERS and not certificate
        if ours and not await self._advance(found):
            left_s = min(left_s, ASK_AGAIN_S)
        return Requeue(left_s)

    async def _advance(self, found: Object) -> bool:
        """Approve it, or sign it, or say why not. False: its author may not have it yet."""
        if has(found, "Denied") or has(found, "Failed"):
            return True
        pem = base64.b64decode(found["spec"]["request"])
        try:
            asked = load(pem)
        except ValueError as error:
            if has(found, "Approved"):
                await self._condition(found, "Failed", FAILED, f"unable to parse csr: {error}")
            return True
        subject = subject_of(asked)
        if not has(found, "Approved"):
            return await self._approve(found, subject)
        why = refusal(found, subject)
        if why:
            await self._condition(found, "Failed", FAILED, why)
            return True
        usages = found["spec"].get("usages") or ()
        validity = validity_s(found, self.clock.now())
        made = issue(asked, usages, validity, self._signer())
        certificate = base64.b64encode(made).decode()
        status = {**(found.get("status") or {}), "certificate": certificate}
        await self.client.update(self.resource, {**found, "status": status}, "status")
        return True

    async def _approve(self, found: Object, subject: Subject) -> bool:
        """False: it is a node's, and the author lacks the right to have it approved by itself."""
        tried = recognized(found, subject)
        for what in tried:
            review = await self.client.create(REVIEWS, access_review(found, what))
            if review["status"]["allowed"]:
                await self._condition(found, "Approved", APPROVED, what.message)
                return True
        if not tried:
            name = subject.common_name.removeprefix(NODE_PREFIX)
            own = own_addresses(name, self.nodes.list(), self._server_addresses())
            message = serving_approval(found, subject, own)
            if message:
                await self._condition(found, "Approved", APPROVED, message)
        return not tried

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

    def _signer(self) -> Authority:
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
