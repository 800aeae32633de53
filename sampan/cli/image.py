"""`sampan image`: the images a cluster's node has without asking a registry."""

from __future__ import annotations

import contextlib
import json
import operator
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from .options import NAME, Data, Json, Name, fail, not_running, paths_of, settings_of

if TYPE_CHECKING:
    from sampan.paths import ClusterPaths
    from sampan.runtime.images import ImageStore
    from sampan.runtime.interface import Image, Images

Answer = TypeVar("Answer")

STDIN = Path("-")

app = typer.Typer(help="Load, build, list, pull and remove images.", no_args_is_help=True)


def use(paths: ClusterPaths, work: Callable[[Images], Awaitable[Answer]], what: str = "") -> Answer:
    """Do it with what a cluster's runtime makes containers of: its own store, or containerd's."""

    async def visit() -> Answer:
        if runtime_of(paths) == "crun":
            return await work(store_of(paths))
        from sampan.runtime.cri.containerd import Containerd
        from sampan.runtime.cri.images import CriImages

        images = CriImages(Containerd(paths.node, paths.run))
        try:
            await images.refresh()
            return await work(images)
        finally:
            images.close()

    return wait(visit(), what)


def runtime_of(paths: ClusterPaths) -> str:
    """What runs the cluster's containers; it is decided when a cluster is made.
    Ends the command where that cannot be read."""
    return str(settings_of(paths).get("runtime", "crun"))


def store_of(paths: ClusterPaths) -> ImageStore:
    """The store of a cluster, running or not. Imported here: other commands need none of it."""
    from sampan.runtime.images import ImageStore

    if not paths.data.is_dir():
        # A folder that a slip of the name would leave behind.
        fail(not_running(paths))
    return ImageStore(paths.images, settings=paths.registry_settings)


def wait(work: Coroutine[Any, Any, Answer], what: str = "") -> Answer:
    """Do it; ends the command with one line when it cannot be done."""
    import asyncio

    from sampan.runtime.interface import RuntimeFailure

    try:
        return asyncio.run(work)
    except RuntimeFailure as error:
        fail(f"{what}{error}")
    except OSError as error:
        fail(f"{what}{error.strerror or error}")


@app.command()
def load(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Docker or OCI archives (tar, tar.gz); - is stdin."),
    ],
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Import image archives: docker save app:1 | sampan image load -"""
    paths = paths_of(name, data)
    for file in files:
        with seekable(paths, file) as archive:
            images = use(paths, operator.methodcaller("load", archive), f"{file}: ")
        for image in images:
            print("\n".join(image.tags) or image.id)


@contextlib.contextmanager
def seekable(paths: ClusterPaths, file: Path) -> Iterator[Path]:
    """The archive as a file that can be read from any place: what comes through a pipe is written
    down first, beside the images, where there is room for them."""
    if file != STDIN and not file.is_fifo():
        yield file
        return
    if not paths.data.is_dir():
        fail(not_running(paths))
    with tempfile.NamedTemporaryFile(dir=paths.data, suffix=".tar") as copy:
        try:
            with open("/dev/stdin" if file == STDIN else file, "rb") as source:
                shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
        except OSError as error:
            fail(f"{file}: {error.strerror or error}")
        yield Path(copy.name)


@app.command("ls")
def list_images(name: Name = NAME, data: Data = None, json_output: Json = False) -> None:
    """List the images that are present."""
    images = use(paths_of(name, data), listed)
    if json_output:
        print(json.dumps([facts(image) for image in images]))
        return
    for image in images:
        short = image.id.removeprefix("sha256:")[:12]
        print(f"{short}  {image.size_bytes / 2**20:8.1f} MiB  {' '.join(image.tags)}")


async def listed(images: Images) -> Sequence[Image]:
    return images.list()


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
    """Remove an image that no container uses."""
    paths = paths_of(name, data)

    async def work(images: Images) -> None:
        image = images.find(reference)
        if image is not None and (users := await users_of(images, paths, image.id)):
            fail(f"{reference} is used by {len(users)} containers, the first is {users[0][:12]}")
        await images.remove(reference)

    use(paths, work)


async def users_of(images: Images, paths: ClusterPaths, image_id: str) -> Sequence[str]:
    """The containers that were made of an image, also those that have ended."""
    from sampan.runtime.cri.images import CriImages
    from sampan.runtime.records import read_record

    if isinstance(images, CriImages):
        return await images.users(image_id)

    found = (read_record(path) for path in paths.node.glob("containers/*/record.json"))
    return [record.id for record in found if record is not None and record.image == image_id]


@app.command()
def pull(
    reference: Annotated[str, typer.Argument(help="e.g. registry.example/app:1.0")],
    username: Annotated[str, typer.Option(help="For the registry; asks for the password.")] = "",
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Fetch an image from its registry."""
    from sampan.runtime.interface import Credentials

    credentials = None
    if username:
        credentials = Credentials(username, typer.prompt("Password", hide_input=True, err=True))
    image = use(paths_of(name, data), lambda images: images.pull(reference, credentials))
    print(image.id)
