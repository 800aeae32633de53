"""How a node agent that was started by itself becomes a node of a cluster.

A machine joins with a bootstrap token and the hash of the CA (`discovery`). For nodes of the same
machine there is DATA/agent.token, 0600: the cluster's CA certificate and a secret, which the server
knows as user `BOOTSTRAP`. Either is in group system:bootstrappers, who may read the cluster's
networks, look whether a name is taken, and ask for a certificate, no more. Then the agent asks as
kubelet does: a client certificate by CertificateSigningRequest, a Node, its share of the pod
network, and a serving certificate for its address. At later starts it asks again where it stands,
since its address or its share may be others by then.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
import ssl
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sampan.aio.backoff import Backoff
from sampan.api.errors import AlreadyExists, Forbidden, NotFound, Object, StatusError
from sampan.api.meta import has_condition
from sampan.api.resources import api_resource
from sampan.client.api import Client
from sampan.client.http import HttpTransport
from sampan.client.tunnelling import TUNNEL
from sampan.linux.primary import primary_address
from sampan.paths import ClusterPaths

from . import config
from .child import Child, Refused
from .config import ClusterConfig, write_private
from .listening import is_loopback, parse_listen
from .membership import DUE, PAIRS
from .pki import ensure_key, general_name
from .renewal import due_of, settle_pair
from .wireguardkeys import ensure_wireguard

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
    machines = {"kind": "Group", "name": NODES, "apiGroup": RBAC}
    rule = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [NETWORKS],
        "verbs": ["get"],
    }
    name, reader = "sampan:node-bootstrapper", "sampan:get-nodes"
    looks = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
    # How the others are reached is written in their Nodes.
    calls = {"nonResourceURLs": [TUNNEL], "verbs": ["get"]}
    overlay, sees = "sampan:overlay", {**looks, "verbs": ["get", "list", "watch"]}
    networks = {
        "name": cluster.name,
        "podCIDR": cluster.pod_cidr,
        "serviceCIDR": cluster.service_cidr,
        "podCIDR6": cluster.pod_cidr6,
        "serviceCIDR6": cluster.service_cidr6,
        "registryPort": str(cluster.registry),
    }
    # First: a request that comes before its approval is possible waits for the next look.
    wanted: list[tuple[str, str, Object]] = [
        *(("clusterrolebindings", RBAC, item) for item in _approvals()),
        ("configmaps", "", {"metadata": {"name": NETWORKS}, "data": networks}),
        *_hosting(cluster),
        ("roles", RBAC, {"metadata": {"name": name}, "rules": [rule]}),
        ("rolebindings", RBAC, _binding(name, "Role", name, group)),
        ("rolebindings", RBAC, _binding("sampan:nodes", "Role", name, machines)),
        ("clusterroles", RBAC, {"metadata": {"name": reader}, "rules": [looks]}),
        ("clusterroles", RBAC, {"metadata": {"name": overlay}, "rules": [sees, calls]}),
        ("clusterrolebindings", RBAC, _binding(overlay, "ClusterRole", overlay, machines)),
        ("clusterrolebindings", RBAC, _binding(reader, "ClusterRole", reader, group)),
        (
            "clusterrolebindings",
            RBAC,
            _binding(name, "ClusterRole", "system:node-bootstrapper", group),
        ),
    ]
    for plural, group_name, body in wanted:
        kind = api_resource(plural, group_name)
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


def _hosting(cluster: ClusterConfig) -> list[tuple[str, str, Object]]:
    """Where the cluster's registry is, for the tools that look for it (KEP-1755)."""
    port = cluster.registry
    text = f"""\
host: "localhost:{port}"
hostFromContainerRuntime: "localhost:{port}"
hostFromClusterNetwork: "{cluster.first_gateway}:{port}"
"""
    meta = {"name": "local-registry-hosting"}
    body: Object = {"metadata": meta, "data": {"localRegistryHosting.v1": text}}
    return [("configmaps", "", body)] if port else []


def _binding(name: str, kind: str, role: str, subject: Object) -> Object:
    return {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [subject],
    }


def settle(child: Child) -> None:
    """Join, or find out where this node stands, before the process has a loop or namespaces.
    Raises Refused, and OSError while the server cannot be reached."""
    paths, options = child.paths, child.options
    for name in PAIRS:
        settle_pair(paths.pki, name)
    if not options.server:
        order = json.loads(paths.order.read_bytes())
        options.server, options.token = order["server"], order.get("token", "")
        options.ca_hash, options.node_name = order.get("ca_hash", ""), order["node_name"]
    joined = asyncio.run(join(child))
    if joined.moved:
        # What runs here has addresses that are another node's by now.
        from .cleanup import clean

        clean(paths, joined.before)
    if paths.order.exists() and options.token:
        # It has done its work, and should not lie about.
        kept = {"server": options.server, "node_name": options.node_name}
        write_private(paths.order, json.dumps(kept).encode())
    if joined.cluster.underlay:
        ensure_wireguard(paths.pki)
    due_s = min(due_of(paths.pki / f"{name}.crt") for name in PAIRS)
    write_private(paths.pki / DUE, str(due_s).encode())


async def join(child: Child) -> Joined:
    """Become a node, or find out that this is one, and where it stands now. Raises Refused; while
    the server cannot be reached, what was agreed before holds, else OSError is raised."""
    paths, options = child.paths, child.options
    known = config.read(paths)
    try:
        if known is None:
            name = options.node_name or config.node_name()
            await _certify_client(options, (paths, name))
        else:
            name = known.node_name
        cluster = await _register(options, (paths, name), known)
    except (StatusError, OSError) as error:
        if isinstance(error, StatusError) and error.code < 500:
            raise Refused(_refusal(error)) from error
        if known is not None:
            return Joined(known, known)
        if "certificate is not yet valid" in str(error) or "certificate has expired" in str(error):
            # Its CA was believed by its hash a moment before, so it is the time that is wrong.
            raise Refused(wrong_clock(options.server, time.time())) from error
        raise OSError(f"cannot reach {options.server}: {error}") from error
    config.write(paths, cluster)
    return Joined(cluster, known)


def wrong_clock(server: str, now_s: float) -> str:
    """What is wrong where the server's certificate is not of this time."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now_s))
    return (
        f"the certificate of {server} is not valid at this machine's time, {shown} UTC: set the"
        " clock of whichever machine is wrong, and join again"
    )


class Joined(NamedTuple):
    """What was agreed on, and what before."""

    cluster: ClusterConfig
    before: ClusterConfig | None

    @property
    def moved(self) -> bool:
        """The node has another share: nothing that ran here has an address any more."""
        return self.before is not None and self.before.node_cidr != self.cluster.node_cidr


def _refusal(error: StatusError) -> str:
    if error.code == 401:
        return (
            "the server does not know the token, or it has expired; make another there with"
            " 'sampan token create'"
        )
    return f"the server refuses this node: {error.message}"


async def _certify_client(options: Namespace, node: tuple[ClusterPaths, str]) -> None:
    """Get the client certificate, and the CA it belongs to."""
    paths, name = node
    if options.ca_hash:
        # An HTTP client of its own, which only this needs.
        from .discovery import discover

        ca, secret = discover(options.server, options.ca_hash), options.token.strip()
    else:
        ca, secret = read_token(options.token)
    paths.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    transport = HttpTransport(options.server, ca=ca, token=secret)
    client = Client(transport)
    try:
        await _check_name(client, name)
        key = ensure_key(paths.pki / "node-client.key")
        certificate = await request_certificate(client, key, name, ())
        write_private(paths.pki / "node-client.crt", certificate)
        write_private(paths.pki / "ca.crt", ca.encode())
    finally:
        await transport.close()


async def _check_name(client: Client, name: str) -> None:
    """A name belongs to one machine; one that is not ready may be this one, come back empty."""
    try:
        node = await client.get(api_resource("nodes"), name)
    except NotFound:
        return
    if has_condition(node, "Ready"):
        raise Refused(
            f'a Node with name "{name}" and status "Ready" already exists in the cluster. You must'
            " delete the existing Node or change the name of this new joining Node (--node-name)"
        )


async def _register(
    options: Namespace, node: tuple[ClusterPaths, str], known: ClusterConfig | None
) -> ClusterConfig:
    """Make or find the Node, wait for its share, and have a serving certificate for its address."""
    paths, name = node
    server, carrier = options.server, options.carrier
    pki = paths.pki
    transport = HttpTransport(
        server, ca=pki / "ca.crt", cert=pki / "node-client.crt", key=pki / "node-client.key"
    )
    client = Client(transport)
    try:
        networks = (await client.get(api_resource("configmaps"), NETWORKS, NAMESPACE))["data"]
        share = await _share(client, name, known.node_cidr if known else "")
        host, port = parse_listen(server.removeprefix("https://").rstrip("/"))
        address = own_address(paths, host)
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
            registry_port=int(networks.get("registryPort") or 0) or -1,
            address=address,
            shares_address=bool(address) and await is_shared(client, name, address),
            pod_cidr6=networks.get("podCIDR6", ""),
            service_cidr6=networks.get("serviceCIDR6", ""),
            carrier=carrier,
        )
        if known is None or known.address_of_node != cluster.address_of_node:
            await _certify_serving(client, pki, cluster)
    finally:
        await transport.close()
    return cluster


async def is_shared(client: Client, name: str, address: str) -> bool:
    """Does another node have this address? Behind NAT many machines have the same."""
    nodes = (await client.list(api_resource("nodes")))["items"]
    return any(
        item.get("address") == address
        for node in nodes
        if node["metadata"]["name"] != name
        for item in (node.get("status") or {}).get("addresses") or ()
    )


def own_address(paths: ClusterPaths, server: str) -> str:
    """The machine's, by which the server is reached; "" when nobody else can reach it by that."""
    found = primary_address(server) if paths.number == 1 else ""
    return "" if is_loopback(found) else found


async def _certify_serving(client: Client, pki: Path, cluster: ClusterConfig) -> None:
    name, address = cluster.node_name, cluster.address_of_node
    # A node is certified for the addresses its Node has, so they are said first.
    addresses = [
        {"type": "InternalIP", "address": address},
        {"type": "Hostname", "address": name},
    ]
    status = {"status": {"addresses": addresses}}
    await client.patch(api_resource("nodes"), name, status, subresource="status")
    key = ensure_key(pki / "node.key")
    certificate = await request_certificate(client, key, name, (name, address))
    write_private(pki / "node.crt", certificate)


async def _share(client: Client, name: str, before: str) -> str:
    """This node's part of the pod network, from the Node, which is made if it is not there: with
    the share it had before, unless that is another's by now."""
    nodes = api_resource("nodes")
    body: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    had = {"spec": {"podCIDR": before, "podCIDRs": [before]}} if before else {}
    with suppress(AlreadyExists):
        try:
            await client.create(nodes, body | had)
        except Forbidden:
            if not had:
                raise
            await client.create(nodes, body)
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
    requests = api_resource("certificatesigningrequests", "certificates.k8s.io")
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
    """The object once `done(object)` holds, by watch. A server whose watches end at once is asked
    ever more rarely."""
    query = {"fieldSelector": f"metadata.name={name}"}
    backoff = Backoff(initial_s=0.05, cap_s=30.0, jitter=0.5)
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
                backoff.reset()
        await asyncio.sleep(backoff.next_s())
