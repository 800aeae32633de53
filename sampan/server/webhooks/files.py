"""Targets that the administrator names by a kubeconfig file (authentication, authorisation, audit).

Certificates may be in the file or beside it; a client certificate in the file is written to a
private temporary file, as TLS reads it from files only.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from pathlib import Path

from sampan.client.kubeconfig import Access, KubeconfigError, read

from .target import Target


def target_of_kubeconfig(path: Path) -> Target:
    """Where the current context of a kubeconfig leads. Raises ValueError (KubeconfigError)."""
    access = read(path)
    if not access.url.startswith(("https://", "http://")):
        raise KubeconfigError(f"{path}: the server must be an http or https address")
    headers = (("Authorization", f"Bearer {access.token}"),) if access.token else ()
    return Target(
        access.url,
        ca=access.ca.encode(),
        client_cert=_pair(access),
        client_key=None,
        insecure=access.insecure,
        headers=headers,
    )


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
