"""Make the guestbook's two images from busybox: `python -m examples.guestbook.build FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from examples.busybox import busybox_files
from sampan.runtime.build import Entry, File, ImageConfig, build_archive

HERE = Path(__file__).parent


def frontend() -> bytes:
    """The archive of guestbook-frontend:1.0."""
    www = HERE / "frontend/www"
    files: dict[str, Entry] = {
        **busybox_files(),
        "start": executable(HERE / "frontend/start"),
        "www/index.html": File((www / "index.html").read_bytes(), 0o644),
        "www/cgi-bin/entries": executable(www / "cgi-bin/entries"),
    }
    config = ImageConfig(entrypoint=["/start"], exposed_ports=["80/tcp"])
    return build_archive(files, config, "guestbook-frontend:1.0")


def backend() -> bytes:
    """The archive of guestbook-backend:1.0."""
    files: dict[str, Entry] = {
        **busybox_files(),
        "start": executable(HERE / "backend/start"),
        "bin/redis-session": executable(HERE / "backend/redis-session"),
    }
    config = ImageConfig(entrypoint=["/start"], exposed_ports=["6379/tcp"])
    return build_archive(files, config, "guestbook-backend:1.0")


def executable(path: Path) -> File:
    return File(path.read_bytes(), 0o755)


def main(folder: Path) -> None:
    for name, make in (("frontend", frontend), ("backend", backend)):
        path = folder / f"guestbook-{name}.tar"
        path.write_bytes(make())
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
