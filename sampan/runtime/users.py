"""Who a container runs as: numbers and names, looked up in the image's own /etc.

Its /etc/passwd may be a symbolic link to anywhere; it is opened inside the root and only so far
(CVE-2024-5154).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct, structs

from ..linux.openat2 import read_in_root
from .interface import ContainerSpec, RuntimeFailure

# More than any real file; a larger one is read so far.
FILE_LIMIT_BYTES = 4 * 1024 * 1024
_ID_MAX = 2**31 - 1
_DIGITS_MAX = 20


class User(Struct, frozen=True):
    uid: int
    gid: int
    gids: Sequence[int] = ()
    """Supplementary groups of /etc/group."""
    home: str = ""
    """Home directory of /etc/passwd; "" when the user has no entry."""


def with_user(spec: ContainerSpec, rootfs: Path) -> ContainerSpec:
    """The spec with `security.user` turned into numbers. Raises RuntimeFailure."""
    security = spec.security
    home = ""
    if security.user:
        user = resolve_user(rootfs, security.user)
        home = user.home
        theirs = user.gids if security.image_groups else ()
        gids = list(dict.fromkeys([*security.supplemental_gids, *theirs]))
        security = structs.replace(security, uid=user.uid, gid=user.gid, supplemental_gids=gids)
    else:
        entry = _entry(_fields(rootfs, "/etc/passwd", 7), 2, str(security.uid))
        home = entry[5] if entry else ""
        theirs = _memberships(rootfs, entry[0]) if entry and security.image_groups else ()
        gids = list(dict.fromkeys([*security.supplemental_gids, *theirs]))
        security = structs.replace(security, supplemental_gids=gids)
    env = spec.env
    if not any(name == "HOME" for name, _ in env):
        env = [*env, ("HOME", home or "/")]
    return structs.replace(spec, security=security, env=env)


def resolve_user(rootfs: Path, text: str) -> User:
    """From "user[:group]", each a number or a name, as image configurations and CRI write it.

    A number needs no entry; without a group it takes the one of its entry, else 0. The image's
    groups of the user are its own whatever its first one is, as containerd has it for pods
    (KEP-3619). Raises RuntimeFailure.
    """
    name, _, group = text.partition(":")
    entry = None
    lines = list(_fields(rootfs, "/etc/passwd", 7))
    if name:
        entry = _entry(lines, 0, name)
    number = _checked(name) if name else 0
    if entry is None and number is not None:
        entry = _entry(lines, 2, str(number))
    if entry is not None:
        uid, gid, home = int(entry[2]), int(entry[3]) if _is_id(entry[3]) else 0, entry[5]
    elif number is not None:
        uid, gid, home = number, 0, ""
    else:
        raise RuntimeFailure(f"unable to find user {name}: no matching entries in passwd file")
    login = entry[0] if entry is not None else ""
    gid = _group(rootfs, group) if group else gid
    return User(uid, gid, _memberships(rootfs, login) if login else (), home)


def _group(rootfs: Path, name: str) -> int:
    entry = _entry(_fields(rootfs, "/etc/group", 4), 0, name)
    if entry is not None:
        return int(entry[2])
    number = _checked(name)
    if number is None:
        raise RuntimeFailure(f"unable to find group {name}: no matching entries in group file")
    return number


def _memberships(rootfs: Path, login: str) -> Sequence[int]:
    lines = _fields(rootfs, "/etc/group", 4)
    return [int(line[2]) for line in lines if login in line[3].split(",")]


def _entry(lines: Iterable[list[str]], at: int, value: str) -> list[str] | None:
    return next((line for line in lines if line[at] == value), None)


def _fields(rootfs: Path, path: str, count: int) -> Iterator[list[str]]:
    """Well-formed lines of a passwd-like file, split; none when it is missing or no file. Some
    images have a user of a number that no Linux gives a process: nobody else is concerned."""
    try:
        text = read_in_root(rootfs, path, FILE_LIMIT_BYTES).decode(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= count and _is_id(fields[2]):
            yield fields


def _is_id(text: str) -> bool:
    return _is_number(text) and int(text) <= _ID_MAX


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX


def _checked(text: str) -> int | None:
    """None for a name. Raises RuntimeFailure for a number that is out of range."""
    if not _is_number(text):
        return None
    if not _is_id(text):
        raise RuntimeFailure(f"user or group id {text} is out of range")
    return int(text)
