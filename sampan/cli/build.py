"""`sampan image build` and `registry`: two ways from one's own program into the node's store.

buildah builds, and the result is loaded. Its storage (cached steps, base images) is in the folder
of the cluster. What is in its registry can be built upon; others are as the user has them.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sampan.paths import ClusterPaths, registry_port

from .image import runtime_of, use
from .options import NAME, Data, Json, Name, fail, paths_of, settings_of

Tag = Annotated[str, typer.Option("-t", "--tag", help="The image's name.")]
Dockerfile = Annotated[str, typer.Option("-f", "--file", help="The Dockerfile.")]
Options = Annotated[
    list[str] | None,
    typer.Option("-o", "--option", help="Passed on to buildah, e.g. --build-arg=A=b."),
]

REGISTRIES = Path("/etc/containers/registries.conf")
WITHOUT_HYBRID = 'umount /sys/fs/cgroup/unified && exec "$@"'
"""crun refuses hybrid cgroups (linux/namespaces.py): the build has a mount namespace of its own."""


def build(
    context: Annotated[str, typer.Argument(help="The folder with what is copied.")] = ".",
    tag: Tag = "",
    file: Dockerfile = "",
    options: Options = None,
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Build an image from a Dockerfile by buildah, and load it."""
    build_image(paths_of(name, data), (context, tag, file), options or ())


def registry(name: Name = NAME, data: Data = None, json_output: Json = False) -> None:
    """Say where the cluster's own registry is, and how to log in: what is pushed is loaded."""
    paths = paths_of(name, data)
    host = registry_host(paths)
    if not host:
        fail("the cluster has no registry, or has never been started")
    if json_output:
        print(json.dumps({"host": host, "username": "admin", "password_file": str(paths.token)}))
        return
    print(f"docker login {host} -u admin --password-stdin < {paths.token}")
    print(f"docker push {host}/app:1")


def registry_host(paths: ClusterPaths) -> str:
    """ "localhost:PORT" of the cluster's registry; "" when there is none."""
    facts = settings_of(paths)
    if not facts or runtime_of(paths) != "crun":
        return ""
    port = registry_port(facts.get("slot", 0), facts.get("registry_port", 0))
    return f"localhost:{port}" if port else ""


def build_image(paths: ClusterPaths, wanted: tuple[str, str, str], options: Sequence[str]) -> None:
    """`wanted` is (context, tag, file); ends the command with one line when it cannot be done."""
    from sampan.runtime.reference import InvalidReference, parse

    context, tag, file = wanted
    if shutil.which("buildah") is None:
        fail("buildah is missing; install it with: apt-get install buildah")
    if not tag:
        fail("name the image: sampan image build -t NAME[:TAG]")
    try:
        name = parse(tag)
    except InvalidReference as error:
        fail(str(error))
    if name.digest:
        fail("an image cannot be named by a digest before it is built")
    root = paths.data / "build"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    buildah = ("buildah", "--root", str(root / "storage"), "--runroot", str(root / "run"))
    build = [*buildah, "build", "--isolation=oci", "--runtime=crun", "--layers", f"--tag={name}"]
    build += [f"--file={file}"] if file else []
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        environment = {**os.environ, **_registries(paths, Path(scratch))}
        run([*build, *options, context], environment)
        archive = Path(scratch) / "image.tar"
        run([*buildah, "push", "--quiet", str(name), f"docker-archive:{archive}:{name}"])
        for image in use(paths, lambda images: images.load(archive)):
            print("\n".join(image.tags) or image.id)


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    from sampan.linux.cgroups import mode

    if mode() == "hybrid":
        command = ("unshare", "--mount", "sh", "-c", WITHOUT_HYBRID, "sh", *command)
    code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        fail(f"buildah ended with {code}")


def _registries(paths: ClusterPaths, scratch: Path) -> Mapping[str, str]:
    """Files that let buildah read the cluster's registry, beside what the user has."""
    host = registry_host(paths)
    if not host:
        return {}
    settings = Path(os.environ.get("CONTAINERS_REGISTRIES_CONF", REGISTRIES))
    text = settings.read_text() if settings.exists() else ""
    ours = scratch / "registries.conf"
    ours.write_text(f'{text}\n[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    known = _known_logins()
    if paths.token.exists():
        pair = f"admin:{paths.token.read_text().strip()}".encode()
        auths = {**(known.get("auths") or {}), host: {"auth": base64.b64encode(pair).decode()}}
        known = {**known, "auths": auths}
    logins = scratch / "auth.json"
    logins.touch(mode=0o600)
    logins.write_text(json.dumps(known))
    return {"CONTAINERS_REGISTRIES_CONF": str(ours), "REGISTRY_AUTH_FILE": str(logins)}


def _known_logins() -> dict[str, Any]:
    """The user's own, where container tools look for them."""
    places = (
        Path(os.environ.get("REGISTRY_AUTH_FILE", "/nonexistent")),
        Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"), "containers/auth.json"),
        Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker"), "config.json"),
    )
    for path in places:
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return {}
