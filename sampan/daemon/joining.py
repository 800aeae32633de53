"""How a node agent that was started by itself becomes a node of a cluster.

The token (DATA/agent.token of the server, 0600) is the cluster's CA certificate and a secret: the
agent trusts nothing it has not been told, and the server knows the secret as user `BOOTSTRAP` in
group system:bootstrappers, who may read the cluster's networks and ask for a certificate, no more.
Then the agent asks as kubelet does: a client certificate by CertificateSigningRequest, a Node, its
share of the pod network, and a serving certificate for the address that follows from it.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import ssl
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sampan.api.errors import AlreadyExists, NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.http import HttpTransport
from sampan.paths import ClusterPaths

from . import config
from .child import Child, Refused
from .config import ClusterConfig, write_private
from .pki import ensure_key, general_name

BOOTSTRAP = "system:bootstrap:agent"
BOOTSTRAPPERS, NODES = "system:bootstrappers", "system:nodes"
APPROVAL = "system:certificates.k8s.io:certificatesigningrequests:"
NAMESPACE, NETWORKS = "kube-public", "sampan"
RBAC = "rbac.authorization.k8s.io"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"


def make_token(paths: ClusterPaths) -> str:
    """The agents' secret, made with its token file at the first start."""
    path = paths.data / "agent.token"
    if not path.exists():
        ca = ssl.PEM_cert_to_DER_cert((paths.pki / "ca.crt").read_text())
        packed = base64.urlsafe_b64encode(ca).decode().rstrip("=")
        write_private(path, f"{packed}.{secrets.token_urlsafe(32)}".encode())
    return path.read_text().strip().rpartition(".")[2]


def read_token(token: str) -> tuple[str, str]:
    """(CA certificate in PEM, secret). Raises Refused."""
    packed, _, secret = token.strip().rpartition(".")
    try:
        der = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        x509.load_der_x509_certificate(der)
    except (ValueError, binascii.Error):
        raise Refused("the token is damaged; use the whole of DATA/agent.token") from None
    return ssl.DER_cert_to_PEM_cert(der), secret


async def publish(client: Client, cluster: ClusterConfig) -> None:
    """Let agents join: what they may read and ask for. Idempotent."""
    group = {"kind": "Group", "name": BOOTSTRAPPERS, "apiGroup": RBAC}
    rule = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [NETWORKS],
        "verbs": ["get"],
    }
    name = "sampan:node-bootstrapper"
    networks = {
        "name": cluster.name,
        "podCIDR": cluster.pod_cidr,
        "serviceCIDR": cluster.service_cidr,
    }
    # First: a request that comes before its approval is possible waits for the next look.
    wanted: list[tuple[str, str, Object]] = [
        *(("clusterrolebindings", RBAC, item) for item in _approvals()),
        ("configmaps", "", {"metadata": {"name": NETWORKS}, "data": networks}),
        ("roles", RBAC, {"metadata": {"name": name}, "rules": [rule]}),
        ("rolebindings", RBAC, _binding(name, "Role", name, group)),
        (
            "clusterrolebindings",
            RBAC,
            _binding(name, "ClusterRole", "system:node-bootstrapper", group),
        ),
    ]
    for plural, group_name, body in wanted:
        kind = resource(plural, group_name)
        namespace = NAMESPACE if kind.namespaced else ""
        try:
            await client.get(kind, body["metadata"]["name"], namespace)
        except NotFound:
            head = {"apiVersion": kind.api_version, "kind": kind.kind}
            await client.create(kind, head | body, namespace)


def _approvals() -> Iterator[Object]:
    """Whose requests are approved by themselves, as kubeadm has it: new nodes' first certificate,
    and that of each node when it renews its own."""
    for name, group, role in (
        ("sampan:node-autoapprove-bootstrap", BOOTSTRAPPERS, "nodeclient"),
        ("sampan:node-autoapprove-certificate-rotation", NODES, "selfnodeclient"),
    ):
        subject = {"kind": "Group", "name": group, "apiGroup": RBAC}
        yield _binding(name, "ClusterRole", APPROVAL + role, subject)


def _binding(name: str, kind: str, role: str, subject: Object) -> Object:
    return {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [subject],
    }


async def join(child: Child) -> ClusterConfig:
    """Become a node; after the first time, what was agreed then. Raises Refused."""
    paths, options = child.paths, child.options
    known = config.read(paths)
    if known is not None:
        return _follow(paths, known, options.server)
    ca, secret = read_token(options.token)
    name = options.node_name or config.node_name()
    paths.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(paths.pki / "ca.crt", ca.encode())
    try:
        networks = await _certify_client(options.server, ca, secret, (paths, name))
        cluster = await _register(options.server, (paths, name), networks)
    except StatusError as error:
        raise Refused(f"the server refuses this node: {error.message}") from error
    config.write(paths, cluster)
    return cluster


def _follow(paths: ClusterPaths, known: ClusterConfig, server: str) -> ClusterConfig:
    """The server may listen elsewhere than at the node's last start."""
    host, port = config.parse_listen(server.removeprefix("https://").rstrip("/"))
    if (host, port) != (known.listen_host, known.listen_port):
        known = replace(known, listen_host=host, listen_port=port)
        config.write(paths, known)
    return known


async def _certify_client(
    server: str, ca: str, secret: str, node: tuple[ClusterPaths, str]
) -> dict[str, str]:
    """Get the client certificate; the cluster's networks come back."""
    paths, name = node
    transport = HttpTransport(server, ca=ca, token=secret)
    client = Client(transport)
    try:
        found = await client.get(resource("configmaps"), NETWORKS, NAMESPACE)
        key = ensure_key(paths.pki / "node-client.key")
        certificate = await request_certificate(client, key, name, ())
        write_private(paths.pki / "node-client.crt", certificate)
    finally:
        await transport.close()
    networks: dict[str, str] = found["data"]
    return networks


async def _register(
    server: str, node: tuple[ClusterPaths, str], networks: dict[str, str]
) -> ClusterConfig:
    """Make the Node, wait for its share, get the serving certificate."""
    paths, name = node
    pki = paths.pki
    transport = HttpTransport(
        server, ca=pki / "ca.crt", cert=pki / "node-client.crt", key=pki / "node-client.key"
    )
    client = Client(transport)
    try:
        share = await _share(client, name)
        url = server.removeprefix("https://").rstrip("/")
        host, port = config.parse_listen(url)
        cluster = ClusterConfig(
            name=paths.name,
            slot=0,
            node_name=name,
            pod_cidr=networks["podCIDR"],
            service_cidr=networks["serviceCIDR"],
            listen_host=host,
            listen_port=port,
            identity=networks["name"],
            node_cidr=share,
        )
        # A node is certified for the addresses its Node has, so they are said first.
        addresses = [
            {"type": "InternalIP", "address": cluster.gateway},
            {"type": "Hostname", "address": name},
        ]
        status = {"status": {"addresses": addresses}}
        await client.patch(resource("nodes"), name, status, subresource="status")
        key = ensure_key(pki / "node.key")
        certificate = await request_certificate(client, key, name, (name, cluster.gateway))
        write_private(pki / "node.crt", certificate)
    finally:
        await transport.close()
    return cluster


async def _share(client: Client, name: str) -> str:
    """This node's part of the pod network, from the Node, which is made if it is not there."""
    nodes = resource("nodes")
    try:
        await client.create(nodes, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    except AlreadyExists:
        pass
    node = await _wait(client, nodes, name, lambda obj: bool(obj["spec"].get("podCIDR")))
    share: str = node["spec"]["podCIDR"]
    return share


async def request_certificate(
    client: Client, key: ec.EllipticCurvePrivateKey, node: str, names: tuple[str, ...]
) -> bytes:
    """A certificate for `key`: serving when it has `names`, else a client's."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        alternatives = x509.SubjectAlternativeName([general_name(item) for item in names])
        builder = builder.add_extension(alternatives, critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    requests = resource("certificatesigningrequests", "certificates.k8s.io")
    made = await client.create(
        requests,
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "node-csr-"},
            "spec": {
                "request": base64.b64encode(pem).decode(),
                "signerName": SERVING_SIGNER if names else CLIENT_SIGNER,
                "usages": ["digital signature", "server auth" if names else "client auth"],
            },
        },
    )
    ready = await _wait(client, requests, made["metadata"]["name"], _is_settled)
    if "certificate" not in ready["status"]:
        why = ready["status"]["conditions"][0].get("message", "denied")
        raise Refused(f"the server refuses a certificate for this node: {why}")
    return base64.b64decode(ready["status"]["certificate"])


def _is_settled(request: Object) -> bool:
    status = request.get("status") or {}
    ended = {item["type"] for item in status.get("conditions") or ()} & {"Denied", "Failed"}
    return bool(ended) or "certificate" in status


async def _wait(client: Client, kind: Any, name: str, done: Any) -> Object:
    """The object once `done(object)` holds, by watch."""
    query = {"fieldSelector": f"metadata.name={name}"}
    while True:
        listed = await client.list(kind, query=query)
        for obj in listed["items"]:
            if done(obj):
                found: Object = obj
                return found
        since = {"resourceVersion": listed["metadata"]["resourceVersion"]}
        async with aclosing(client.watch(kind, query=query | since)) as events:  # type: ignore[type-var]
            async for event in events:
                if done(event.object):
                    return event.object
