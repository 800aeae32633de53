"""The cluster's keys and certificates: made at the first boot, renewed when due (`renewal`).

One CA signs clients and servers, as k3s and kubeadm's single-CA set-ups do. The front proxy has a
CA of its own, as upstream asks: whoever it signs may name any user to an extension API server. Keys
are P-256: signing takes a tenth of a millisecond where RSA takes several. All files are 0600.

    ca           signs the others; 10 years
    front-proxy-ca, front-proxy-client
                 what the API server shows to extension API servers
    server       the API server's serving certificate
    node-client  what the API server shows to node agents (logs, exec)
    admin        group system:masters; for the admin kubeconfig
    node         the first node: client system:node:NAME, and its serving certificate
    sa.key       signs service-account tokens
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from .config import ClusterConfig, write_private

CA_YEARS = 10
AUTHORITIES = {"ca": "sampan-ca", "front-proxy-ca": "sampan-front-proxy-ca"}
"""CAs by the name of their files, and how their common names begin."""
LEAF_DAYS = 365
RENEW_SHARE = 0.8
"""A certificate is made anew when it has lived this share of its time, as kubelet renews its own
between 0.7 and 0.9."""
BACKDATE = datetime.timedelta(hours=1)
"""For clients whose clock is a little behind."""


class Leaf(Struct, frozen=True):
    """One certificate to have. `alternatives` are host names and addresses."""

    name: str
    common_name: str
    organization: str = ""
    alternatives: tuple[str, ...] = ()
    server: bool = False
    client: bool = False
    ca: str = "ca"
    """Who signs it."""


def leaves(config: ClusterConfig) -> tuple[Leaf, ...]:
    first_service = str(ipaddress.ip_network(config.service_cidr)[1])
    names = (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        config.node_name,
        "127.0.0.1",
        "::1",
        config.gateway,
        first_service,
    )
    listen = () if config.listen_host in ("0.0.0.0", "::", "") else (config.listen_host,)
    return (
        Leaf("server", "kube-apiserver", alternatives=(*names, *listen), server=True),
        Leaf("node-client", "kube-apiserver-kubelet-client", client=True),
        Leaf("front-proxy-client", "front-proxy-client", client=True, ca="front-proxy-ca"),
        Leaf("admin", "kubernetes-admin", "system:masters", client=True),
        Leaf(
            "node",
            f"system:node:{config.node_name}",
            "system:nodes",
            alternatives=(config.node_name, config.gateway, "127.0.0.1"),
            server=True,
            client=True,
        ),
    )


class Ensured(Struct, frozen=True):
    """What `ensure` did."""

    made: frozenset[str]
    """Names of the leaves that are new."""
    due_s: float
    """When the first certificate is due, in seconds since the epoch."""


def ensure(
    folder: Path,
    config: ClusterConfig,
    now_s: float | None = None,
    lifetime: datetime.timedelta = datetime.timedelta(days=LEAF_DAYS),
) -> Ensured:
    """Make what is missing or due. The CA and the token key are never replaced."""
    now = datetime.datetime.now(datetime.UTC)
    if now_s is not None:
        now = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authorities = {name: _ensure_ca(folder, name, config, now) for name in AUTHORITIES}
    ensure_key(folder / "sa.key")
    made = set()
    due = [ca.not_valid_after_utc.timestamp() for ca, _ in authorities.values()]
    for leaf in leaves(config):
        ca, ca_key = authorities[leaf.ca]
        validity = Validity(now - BACKDATE, min(now + lifetime, ca.not_valid_after_utc))
        path = folder / f"{leaf.name}.crt"
        due_s = _good_until(path, leaf)
        if due_s <= now.timestamp():
            key = ensure_key(folder / f"{leaf.name}.key")
            signed = sign((ca, ca_key), leaf, key.public_key(), validity)
            write_private(path, _pem(signed))
            made.add(leaf.name)
            due_s = due_at(signed)
        due.append(due_s)
    token = folder.parent / "admin.token"
    if not token.exists():
        write_private(token, secrets.token_urlsafe(32).encode())
    return Ensured(frozenset(made), min(due))


def _ensure_ca(
    folder: Path, name: str, config: ClusterConfig, now: datetime.datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ensure_key(folder / f"{name}.key")
    path = folder / f"{name}.crt"
    if not path.exists():
        common_name = f"{AUTHORITIES[name]}-{config.identity[:12]}"
        write_private(path, _pem(_make_ca(key, common_name, now)))
    return x509.load_pem_x509_certificate(path.read_bytes()), key


def due_at(certificate: x509.Certificate) -> float:
    """When a certificate is to be renewed, in seconds since the epoch."""
    begin = certificate.not_valid_before_utc.timestamp()
    return begin + RENEW_SHARE * (certificate.not_valid_after_utc.timestamp() - begin)


def ensure_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in `path`, made when there is none. Raises ValueError for another kind."""
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path} is not a P-256 key")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_private(path, pem)
    return key


def _good_until(path: Path, leaf: Leaf) -> float:
    """When the certificate in `path` is due; 0 if it is not there or for other names."""
    if not path.exists():
        return 0.0
    have = x509.load_pem_x509_certificate(path.read_bytes())
    try:
        names = have.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return 0.0 if leaf.alternatives else due_at(have)
    wanted = [general_name(name) for name in dict.fromkeys(leaf.alternatives)]
    return due_at(have) if list(names) == wanted else 0.0


def general_name(name: str) -> x509.GeneralName:
    """An address or a host name as a certificate has it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _make_ca(
    key: ec.EllipticCurvePrivateKey, common_name: str, now: datetime.datetime
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class Validity(NamedTuple):
    """From when until when a certificate is good."""

    begin: datetime.datetime
    end: datetime.datetime


Authority = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def sign(
    authority: Authority, leaf: Leaf, key: ec.EllipticCurvePublicKey, validity: Validity
) -> x509.Certificate:
    ca, ca_key = authority
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)]
    if leaf.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organization))
    usages = []
    if leaf.server:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    if leaf.client:
        usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(ca.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.begin)
        .not_valid_after(validity.end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
    )
    if leaf.alternatives:
        names = [general_name(name) for name in dict.fromkeys(leaf.alternatives)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
