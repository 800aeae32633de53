"""`sampan token`: what lets other machines join this cluster, for a while.

A bootstrap token as kubeadm makes it: a Secret of kube-system that expires by itself. With the
first one kube-public/cluster-info is made, from which a machine that joins learns the cluster's CA
before it has any credentials; it knows the CA by its hash.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import string
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from sampan.api.bootstraptokens import PREFIX, TYPE, values_of
from sampan.client.authority import ca_hash
from sampan.linux.primary import primary_address
from sampan.paths import ClusterPaths
from sampan.wire.address import join_host_port

from . import api
from .options import (
    NAME,
    Data,
    Json,
    Name,
    fail,
    listening,
    not_running,
    paths_of,
    up_command,
)
from .supervisor import connect, status_of, url_of

app = typer.Typer(help="Let other machines join: tokens.", no_args_is_help=True)

SECRETS = "/api/v1/namespaces/kube-system/secrets"
PUBLIC = "/api/v1/namespaces/kube-public"
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public"
GROUP = "system:bootstrappers:kubeadm:default-node-token"
LETTERS = string.ascii_lowercase + string.digits
TTL = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?")
EVERYWHERE = ("0.0.0.0", "::")
READER = "kubeadm:bootstrap-signer-clusterinfo"
"""Its name at upstream: anybody may read cluster-info."""


@app.command()
def create(
    ttl: Annotated[
        str, typer.Option("--ttl", help="How long it is good, e.g. 90m; 0: for ever.")
    ] = "24h",
    name: Name = NAME,
    data: Data = None,
    json_output: Json = False,
) -> None:
    """Make a token, and print the command that joins a machine with it."""
    paths = paths_of(name, data)
    seconds = seconds_of(ttl)
    url = running_url(paths)
    server = outside_address(paths)
    ca = (paths.pki / "ca.crt").read_bytes()
    publish(paths, url, (f"https://{server}", ca))
    token = make_token(paths, url, seconds)
    hashed = ca_hash(ca)
    if json_output:
        print(json.dumps({"token": token, "server": server, "caCertHash": hashed}))
        return
    print(f"sampan join {server} --token {token} --discovery-token-ca-cert-hash {hashed}")


@app.command("ls")
def list_tokens(name: Name = NAME, data: Data = None, json_output: Json = False) -> None:
    """List the tokens (not their secrets)."""
    paths = paths_of(name, data)
    found = []
    query = f"fieldSelector=type={TYPE}"
    for item in api.get(paths, running_url(paths), f"{SECRETS}?{query}")["items"]:
        token_id = item["metadata"]["name"].removeprefix(PREFIX)
        found.append({"id": token_id, "expires": values_of(item).get("expiration", "")})
    if json_output:
        print(json.dumps(found))
        return
    for token in found:
        print(f"{token['id']}  {token['expires'] or 'for ever'}")


@app.command("rm")
def remove(
    token: Annotated[str, typer.Argument(help="The token, or its id.")],
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Make a token useless."""
    paths = paths_of(name, data)
    token_id = token.partition(".")[0]
    if not re.fullmatch(r"[a-z0-9]{6}", token_id):
        fail(f"{token_id!r} is no token's id: six of a-z and 0-9")
    api.delete(paths, running_url(paths), f"{SECRETS}/{PREFIX}{token_id}")


def seconds_of(text: str) -> int:
    """A duration as Go writes it; 0 is for ever."""
    match = TTL.fullmatch(text)
    if text == "0":
        return 0
    if match is None or not text:
        fail(f"--ttl {text!r}: use for example 24h, 90m or 1h30m, or 0 for ever")
    hours, minutes, seconds = (int(item or 0) for item in match.groups())
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        fail(f"--ttl {text!r}: use for example 24h, 90m or 1h30m, or 0 for ever")
    return total


def running_url(paths: ClusterPaths) -> str:
    link = connect(paths)
    if link is not None:
        with link:
            return url_of(status_of(link))
    # `sampan server` has no supervisor; it listens where its configuration says.
    if not paths.config.exists():
        fail(not_running(paths))
    host, port = listening(paths)
    return f"https://{join_host_port('127.0.0.1' if host in EVERYWHERE else host, port)}"


def outside_address(paths: ClusterPaths) -> str:
    """HOST:PORT by which other machines reach the API; ends the command when they cannot."""
    host, port = listening(paths)
    if not is_reachable(paths):
        fail(
            "the API listens on this machine alone; let others reach it with:"
            f" sampan down --name {paths.name} && {up_command(paths)} --listen ADDRESS:{port}"
        )
    return join_host_port(primary_address() if host in EVERYWHERE else host, port)


def is_reachable(paths: ClusterPaths) -> bool:
    """Whether other machines reach the API."""
    host, _ = listening(paths)
    if host in EVERYWHERE:
        host = primary_address()
    return bool(host) and not host.startswith("127.") and host != "::1"


def publish(paths: ClusterPaths, url: str, cluster: tuple[str, bytes]) -> None:
    """Have cluster-info, readable by anybody, say where the cluster is and what its CA is."""
    server, ca = cluster
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "",
                "cluster": {
                    "certificate-authority-data": base64.b64encode(ca).decode(),
                    "server": server,
                },
            }
        ],
        "contexts": None,
        "current-context": "",
        "preferences": {},
        "users": None,
    }
    data = {"kubeconfig": json.dumps(config)}
    info: dict[str, Any] = {"metadata": {"name": "cluster-info"}, "data": data}
    if not api.create(paths, url, f"{PUBLIC}/configmaps", info):
        path = f"{PUBLIC}/configmaps/cluster-info"
        present = api.get(paths, url, path)
        if present["data"].get("kubeconfig") != data["kubeconfig"]:
            api.ask(paths, url, path, "PUT", {**present, "data": {**present["data"], **data}})
    rule = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": ["cluster-info"],
        "verbs": ["get"],
    }
    group = "rbac.authorization.k8s.io"
    api.create(paths, url, f"{ROLES}/roles", {"metadata": {"name": READER}, "rules": [rule]})
    binding = {
        "metadata": {"name": READER},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": READER},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "system:anonymous"}],
    }
    api.create(paths, url, f"{ROLES}/rolebindings", binding)


def make_token(paths: ClusterPaths, url: str, seconds: int) -> str:
    token_id = "".join(secrets.choice(LETTERS) for _ in range(6))
    secret = "".join(secrets.choice(LETTERS) for _ in range(16))
    values = {
        "token-id": token_id,
        "token-secret": secret,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": GROUP,
    }
    if seconds:
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        values["expiration"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {"metadata": {"name": PREFIX + token_id}, "type": TYPE, "stringData": values}
    api.create(paths, url, SECRETS, body)
    return f"{token_id}.{secret}"
