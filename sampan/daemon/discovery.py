"""Whom a machine that joins may trust: the CA of kube-public/cluster-info, known by its hash.

As kubeadm's token discovery with --discovery-token-ca-cert-hash: cluster-info is read without
credentials and from a server not trusted yet; what counts is that the CA in it has the public key
whose hash the administrator gave. The signature by the token proves nothing more, then.
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request

from sampan.client.authority import ca_hash

from .child import Refused

PATH = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
TIMEOUT_S = 10.0
ANSWER_MAX = 1 << 20


def discover(server: str, wanted: str) -> str:
    """The CA certificate (PEM) of the cluster at `server`. Raises Refused with what to do, OSError
    while the server cannot be reached."""
    if not wanted.startswith("sha256:") or len(wanted) != 7 + 64:
        raise Refused(
            f"--discovery-token-ca-cert-hash {wanted!r}: use sha256: and 64 hexadecimal digits, as"
            " 'sampan token create' prints it"
        )
    ca = read_info(server)
    try:
        found = ca_hash(ca.encode())
    except ValueError as error:
        raise Refused(f"the CA certificate of {server} is damaged: {error}") from error
    if found != wanted.lower():
        raise Refused(
            f"the cluster at {server} has a CA with public key hash {found}, not {wanted}: it is"
            " another cluster, or somebody stands between; nothing was sent to it"
        )
    return ca


def read_info(server: str) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(server + PATH, timeout=TIMEOUT_S, context=context) as answer:
            info = json.loads(answer.read(ANSWER_MAX))
    except urllib.error.HTTPError as error:
        raise Refused(
            f"{server} tells nothing of its cluster ({error.code}); make a token there first, with"
            " 'sampan token create'"
        ) from error
    except urllib.error.URLError as error:
        raise OSError(f"cannot reach {server}: {error.reason}") from error
    try:
        clusters = json.loads(info["data"]["kubeconfig"])["clusters"]
        packed = clusters[0]["cluster"]["certificate-authority-data"]
        return base64.b64decode(packed).decode()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Refused(f"{server}: cluster-info makes no sense: {error}") from error
