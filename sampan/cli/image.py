"""`sampan image`: the images a cluster's node has without asking a registry."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from sampan.runtime.images import ImageStore
from sampan.runtime.interface import Image, RuntimeFailure

from .options import NAME, Data, Json, Name, fail, paths_of

app = typer.Typer(help="Load, list, pull and remove images.", no_args_is_help=True)


def store_of(name: str, data: Path | None) -> ImageStore:
    paths = paths_of(name, data)
    paths.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    return ImageStore(paths.images)


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="A docker or OCI archive (tar, tar.gz).")],
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Import an image archive."""
    try:
        images = asyncio.run(store_of(name, data).load(file))
    except (RuntimeFailure, OSError) as error:
        fail(f"{file}: {error}")
    for image in images:
        print("\n".join(image.tags) or image.id)


@app.command("ls")
def list_images(name: Name = NAME, data: Data = None, json_output: Json = False) -> None:
    """List the images that are present."""
    images = store_of(name, data).list()
    if json_output:
        print(json.dumps([facts(image) for image in images]))
        return
    for image in images:
        short = image.id.removeprefix("sha256:")[:12]
        print(f"{short}  {image.size_bytes / 2**20:8.1f} MiB  {' '.join(image.tags)}")


def facts(image: Image) -> dict[str, object]:
    return {
        "id": image.id,
        "tags": list(image.tags),
        "digests": list(image.digests),
        "size_bytes": image.size_bytes,
    }


@app.command("rm")
def remove(
    reference: Annotated[str, typer.Argument(help="Tag, digest or id.")],
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Remove an image."""
    try:
        asyncio.run(store_of(name, data).remove(reference))
    except (RuntimeFailure, OSError) as error:
        fail(str(error))


@app.command()
def pull(
    reference: Annotated[str, typer.Argument(help="e.g. registry.example/app:1.0")],
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Fetch an image from its registry."""
    try:
        image = asyncio.run(store_of(name, data).pull(reference))
    except (RuntimeFailure, OSError) as error:
        fail(str(error))
    print(image.id)
