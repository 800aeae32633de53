"""Targets that the administrator names by a kubeconfig file (authentication, authorisation, audit).

Certificates may be in the file or beside it; a client certificate in the file is written to a
private temporary file, as TLS reads it from files only.
"""

from __future__ import annotations

import atexit
import base64
import os
import tempfile
from pathlib import Path

from msgspec import structs

from sampan.client.kubeconfig import Access, KubeconfigError, read

from .target import Target

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def target_of_kubeconfig(path: Path) -> Target:
    """Where the current context of a kubeconfig leads. Raises ValueError (KubeconfigError)."""
    access = read(path)
    if not access.url.startswith(("https://", "http://")):
        raise KubeconfigError(f"{path}: the server must be an http or https address")
    return with_credentials(
        Target(access.url, ca=access.ca.encode(), insecure=access.insecure), access
    )


def with_credentials(target: Target, access: Access) -> Target:
    """The target, shown the certificate, token or password of `access`."""
    words = ""
    if access.token:
        words = f"Bearer {access.token}"
    elif access.username:
        pair = f"{access.username}:{access.password}"
        words = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return structs.replace(
        target,
        client_cert=_pair(access),
        client_key=None,
        headers=(("Authorization", words),) if words else (),
    )


def target_in_cluster(folder: Path = ACCOUNT) -> Target:
    """The API server of the cluster in which this process is a pod, by the pod's own account.
    Raises ValueError (KubeconfigError) where it is none."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}") for name in ("HOST", "PORT"))
    if not host or not port:
        raise KubeconfigError(
            "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and "
            "KUBERNETES_SERVICE_PORT must be defined"
        )
    try:
        token, ca = (folder / "token").read_text(), (folder / "ca.crt").read_bytes()
    except OSError as error:
        raise KubeconfigError(str(error)) from None
    shown = f"[{host}]" if ":" in host else host
    headers = (("Authorization", f"Bearer {token.strip()}"),)
    return Target(f"https://{shown}:{port}", ca=ca, headers=headers)


def _pair(access: Access) -> Path | None:
    """A file with certificate and key, gone when the process ends."""
    if not access.cert:
        return None
    handle, name = tempfile.mkstemp(prefix="sampan-", suffix=".pem")
    with os.fdopen(handle, "w") as file:
        file.write(f"{access.cert.rstrip()}\n{access.key}")
    path = Path(name)
    atexit.register(path.unlink, missing_ok=True)
    return path
