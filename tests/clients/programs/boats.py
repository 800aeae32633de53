"""An operator by kopf: boats get a config map each, watched, timed, guarded and cleaned up after.

Run by `kopf run`; its admission webhooks are served by itself on this machine.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import tempfile
from pathlib import Path
from typing import Any

import kopf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

GROUP = "clients.example.com"


def own_certificate() -> tuple[str, str]:
    """Files with a certificate for this machine, signed by itself, and its key. kopf's own way
    needs a library that no longer loads beside current OpenSSL."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "boats")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    folder = Path(tempfile.mkdtemp(prefix="boats-"))
    (folder / "tls.crt").write_bytes(certificate.public_bytes(encoding))
    (folder / "tls.key").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "tls.crt"), str(folder / "tls.key")


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    certificate, key = own_certificate()
    settings.admission.server = kopf.WebhookServer(
        host="127.0.0.1", certfile=certificate, pkeyfile=key
    )
    settings.admission.managed = "kopf.clients.example.com"
    settings.posting.enabled = True
    settings.peering.standalone = True
    settings.execution.max_workers = 4


@kopf.on.mutate(GROUP, "v1", "kopfboats")
def paint(patch: kopf.Patch, spec: kopf.Spec, warnings: list[str], **_: Any) -> None:
    if "port" not in spec:
        patch.spec["port"] = "home"
        warnings.append("the port is home")


@kopf.on.validate(GROUP, "v1", "kopfboats")
def refuse(spec: kopf.Spec, **_: Any) -> None:
    if spec.get("crew", 0) > 10:
        raise kopf.AdmissionError("the crew is too large", code=400)


@kopf.on.create(GROUP, "v1", "kopfboats")
async def launch(name: str, spec: kopf.Spec, patch: kopf.Patch, **_: Any) -> dict[str, Any]:
    patch.status["crew"] = spec["crew"]
    return {"launched": name}


@kopf.on.create(GROUP, "v1", "kopfboats")
async def retried(retry: int, **_: Any) -> str:
    if retry < 1:
        raise kopf.TemporaryError("not yet", delay=0.2)
    return f"after {retry}"


@kopf.on.update(GROUP, "v1", "kopfboats", field="spec.crew")
async def change(old: int, new: int, patch: kopf.Patch, body: kopf.Body, **_: Any) -> None:
    patch.status["crew"] = new
    kopf.info(body, reason="Crew", message=f"from {old} to {new}")


@kopf.on.delete(GROUP, "v1", "kopfboats")
async def sink(name: str, namespace: str, **_: Any) -> None:
    await asyncio.to_thread(note, namespace, f"{name}-sunk")


@kopf.timer(GROUP, "v1", "kopfboats", interval=0.5)
async def tick(status: kopf.Status, patch: kopf.Patch, **_: Any) -> None:
    if status.get("ticks", 0) < 2:
        patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.daemon(GROUP, "v1", "kopfboats", cancellation_timeout=5)
async def sail(stopped: kopf.DaemonStopped, name: str, namespace: str, **_: Any) -> None:
    await asyncio.to_thread(note, namespace, f"{name}-sails")
    await stopped.wait(3600)


@kopf.index(GROUP, "v1", "kopfboats")
def crews(name: str, spec: kopf.Spec, **_: Any) -> dict[str, int]:
    return {name: spec.get("crew", 0)}


def note(namespace: str, name: str) -> None:
    """A config map that says what happened."""
    from kubernetes import client, config

    config.load_kube_config()
    client.CoreV1Api().create_namespaced_config_map(namespace, {"metadata": {"name": name}})
