"""The root of a small image, made from the machine's own static busybox: no registry needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from sampan.runtime.build import Directory, Entry, File, Symlink

PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/srv/app:/bin/sh\n"
GROUP = b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n"


def busybox_files() -> dict[str, Entry]:
    """A root with busybox, a link for each of its commands, and the usual folders."""
    program = shutil.which("busybox")
    if program is None:
        raise FileNotFoundError("busybox (Debian package busybox-static) is needed")
    files: dict[str, Entry] = {"bin/busybox": File(Path(program).read_bytes())}
    listing = subprocess.run([program, "--list"], check=True, capture_output=True, text=True)
    for name in listing.stdout.split():
        if name != "busybox":
            files[f"bin/{name}"] = Symlink("busybox")
    for name in ("dev", "etc", "srv", "proc", "root", "sys", "var"):
        files[name] = Directory()
    files["srv/app"] = Directory(uid=1000, gid=1000)
    files["tmp"] = Directory(0o1777)
    files["etc/passwd"] = File(PASSWD, 0o644)
    files["etc/group"] = File(GROUP, 0o644)
    return files
