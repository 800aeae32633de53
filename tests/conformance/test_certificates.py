"""Certificate signing requests, as an API (upstream's test/e2e/auth/certificates.go)."""

from __future__ import annotations

import base64
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.kit.hooks import authority, pem

from .bench import Bench, discovered

GROUP = "certificates.k8s.io"
PATH = f"/apis/{GROUP}/v1/certificatesigningrequests"
SIGNER = "example.com/e2e-csr"
CHOSEN = f"{PATH}?fieldSelector=spec.signerName%3D{SIGNER}"


def request() -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e.example.com")])
    names = x509.SubjectAlternativeName([x509.DNSName("e2e.example.com")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    made = builder.add_extension(names, critical=False).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    return encoded(made.public_bytes(serialization.Encoding.PEM))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_certificate_signing_requests(bench: Bench) -> None:
    plural = "certificatesigningrequests"
    await discovered(bench, GROUP, "v1", plural, f"{plural}/approval", f"{plural}/status")
    hour = int(datetime.timedelta(hours=1).total_seconds())
    spec = {
        "request": request(),
        "signerName": SIGNER,
        "expirationSeconds": hour,
        "usages": ["digital signature", "key encipherment", "server auth"],
    }
    body = {"metadata": {"generateName": "e2e-example-csr-"}, "spec": spec}
    made = [await bench.create(PATH, body) for _ in range(3)][2]
    path = f"{PATH}/{made['metadata']['name']}"
    read = await bench.get(path)
    assert read["metadata"]["uid"] == made["metadata"]["uid"]
    assert read["spec"]["expirationSeconds"] == hour
    listed = await bench.get(CHOSEN)
    assert len(listed["items"]) == 3
    await noted(bench, path, listed["metadata"]["resourceVersion"])
    await approved(bench, path)
    await signed(bench, path)
    await bench.delete(path)
    await bench.expect(404, "GET", path)
    assert len(await bench.names(CHOSEN)) == 2
    await bench.delete(CHOSEN)
    assert await bench.names(CHOSEN) == []


async def noted(bench: Bench, path: str, since: str) -> None:
    """Annotations by patch and update, seen by a watch of one object."""
    name = path.rpartition("/")[2]
    chosen = f"{PATH}?resourceVersion={since}&fieldSelector=metadata.name%3D{name}"
    async with bench.watching(chosen) as seen:
        patched = await bench.patch(path, {"metadata": {"annotations": {"patched": "true"}}})
        assert patched["metadata"]["annotations"]["patched"] == "true"
        patched["metadata"]["annotations"]["updated"] = "true"
        updated = await bench.put(path, patched)
        assert updated["metadata"]["annotations"]["updated"] == "true"
        await seen.count(2)
        assert seen.types == ["MODIFIED", "MODIFIED"]
        assert seen.events[1]["object"]["metadata"]["annotations"]["patched"] == "true"


async def approved(bench: Bench, path: str) -> None:
    read = await bench.get(f"{path}/approval")
    assert (read["kind"], read["apiVersion"]) == ("CertificateSigningRequest", f"{GROUP}/v1")
    condition = {"type": "ApprovalPatch", "status": "True", "reason": "e2e"}
    patched = await bench.patch(
        f"{path}/approval",
        {"metadata": {"annotations": {"patchedapproval": "true"}},
         "status": {"conditions": [condition]}},
    )  # fmt: skip
    assert [item["type"] for item in patched["status"]["conditions"]] == ["ApprovalPatch"]
    assert patched["metadata"]["annotations"]["patchedapproval"] == "true"
    patched["status"]["conditions"].append(
        {"type": "Approved", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
    )
    updated = await bench.put(f"{path}/approval", patched)
    assert [item["type"] for item in updated["status"]["conditions"]] == [
        "ApprovalPatch", "Approved",
    ]  # fmt: skip


async def signed(bench: Bench, path: str) -> None:
    read = await bench.get(f"{path}/status")
    assert read["kind"] == "CertificateSigningRequest"
    certificate = encoded(pem(authority()[1]))
    patched = await bench.patch(
        f"{path}/status",
        {"metadata": {"annotations": {"patchedstatus": "true"}},
         "status": {"certificate": certificate}},
    )  # fmt: skip
    assert patched["status"]["certificate"] == certificate
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
    patched["status"]["conditions"].append(
        {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set"}
    )
    updated = await bench.put(f"{path}/status", patched)
    assert [item["type"] for item in updated["status"]["conditions"]][-1] == "StatusUpdate"
    assert len(updated["status"]["conditions"]) == 3
