"""kubeconfig files (client-go's clientcmd/api/v1): read one, write the admin's, share the user's.

The user's own file is other people's property: merging and removing change the entries of one
name and keep everything else, under kubectl's own lock file, in one atomic replacement.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from sampan.api.errors import Object

# The three lists of a kubeconfig, and what each entry calls its content.
LISTS = (("clusters", "cluster"), ("contexts", "context"), ("users", "user"))


class KubeconfigError(ValueError):
    """The file does not say how to reach a server; the text says what is missing."""


class Access(Struct, frozen=True):
    """Where a server is, and who is asking. Certificates and the key are PEM text."""

    url: str
    ca: str = ""
    cert: str = ""
    key: str = ""
    token: str = ""
    insecure: bool = False
    username: str = ""
    password: str = ""
    """Basic authentication: webhooks may want it, an API server takes none."""


def user_path() -> Path:
    """The file kubectl writes to: the first of $KUBECONFIG, else ~/.kube/config."""
    for item in os.environ.get("KUBECONFIG", "").split(os.pathsep):
        if item:
            return Path(item)
    return Path.home() / ".kube" / "config"


def read(path: Path, context: str = "") -> Access:
    """The access of `context`, or of the current one. Raises KubeconfigError."""
    config = _load(path)
    name = context or config.get("current-context") or ""
    if not name:
        raise KubeconfigError(f"{path}: no current-context is set")
    chosen = _entry(config, "contexts", name, path)
    cluster = _entry(config, "clusters", str(chosen.get("cluster", "")), path)
    user = _entry(config, "users", str(chosen["user"]), path) if chosen.get("user") else {}
    url = str(cluster.get("server") or "")
    if not url:
        raise KubeconfigError(f"{path}: the cluster of context {name!r} has no server")
    return structs.replace(
        _credentials(user, path),
        url=url,
        ca=_pem(cluster, "certificate-authority", path),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
    )


def read_users(path: Path) -> tuple[dict[str, Access], str]:
    """Every user's credentials by its name, without a server, and the name of the current
    context's user ("" for none). Raises KubeconfigError."""
    config = _load(path)
    users = {
        str(item.get("name") or ""): _credentials(item.get("user") or {}, path)
        for item in config.get("users") or []
    }
    name = config.get("current-context") or ""
    chosen = _entry(config, "contexts", name, path) if name else {}
    return users, str(chosen.get("user") or "")


def _credentials(user: dict[str, Any], path: Path) -> Access:
    return Access(
        url="",
        cert=_pem(user, "client-certificate", path),
        key=_pem(user, "client-key", path),
        token=str(user.get("token") or "") or _text(user, "tokenFile", path).strip(),
        username=str(user.get("username") or ""),
        password=str(user.get("password") or ""),
    )


def build(name: str, access: Access, namespace: str = "") -> Object:
    """A whole kubeconfig with one cluster, user and context called `name`, all data inline."""
    cluster: Object = {"server": access.url}
    if access.ca:
        cluster["certificate-authority-data"] = _encode(access.ca)
    if access.insecure:
        cluster["insecure-skip-tls-verify"] = True
    user: Object = {}
    if access.cert:
        user["client-certificate-data"] = _encode(access.cert)
        user["client-key-data"] = _encode(access.key)
    if access.token:
        user["token"] = access.token
    context: Object = {"cluster": name, "user": name}
    if namespace:
        context["namespace"] = namespace
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "contexts": [{"name": name, "context": context}],
        "users": [{"name": name, "user": user}],
        "current-context": name,
        "preferences": {},
    }


def write(path: Path, config: Object) -> None:
    """Replace `path` atomically, readable by its owner alone."""
    import yaml

    # A link (dotfiles kept elsewhere) stays a link: what it points at is replaced.
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = yaml.dump(config, Dumper=yaml.CSafeDumper, sort_keys=False)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def merge(path: Path, name: str, access: Access) -> None:
    """Put cluster, user and context `name` into `path` and make it the current context.

    Raises KubeconfigError when the file is no kubeconfig, or another program has it locked.
    """

    def change(config: Object) -> None:
        added = build(name, access)
        for plural, _ in LISTS:
            others = [item for item in config.get(plural) or [] if item.get("name") != name]
            config[plural] = others + added[plural]
        config["current-context"] = name
        config.setdefault("apiVersion", "v1")
        config.setdefault("kind", "Config")

    _edit(path, change)


def refresh(path: Path, name: str, access: Access) -> bool:
    """Give entry `name` of `path` these credentials, if it is there and has others; the current
    context stays. False if there was nothing to do. Raises KubeconfigError."""
    found = False

    def change(config: Object) -> None:
        nonlocal found
        added = build(name, access)
        for plural, inner in LISTS:
            if plural == "contexts":
                continue
            for item in config.get(plural) or []:
                new = added[plural][0][inner]
                if item.get("name") == name and item.get(inner) != new:
                    item[inner] = new
                    found = True

    if path.exists():
        _edit(path, change, lambda: found)
    return found


def remove(path: Path, name: str) -> bool:
    """Take cluster, user and context `name` out again. False if the file had none of them."""
    found = False

    def change(config: Object) -> None:
        nonlocal found
        for plural, _ in LISTS:
            items = config.get(plural) or []
            kept = [item for item in items if item.get("name") != name]
            found = found or len(kept) != len(items)
            config[plural] = kept
        if config.get("current-context") == name:
            config["current-context"] = ""

    if path.exists():
        _edit(path, change, lambda: found)
    return found


def _edit(
    path: Path, change: Callable[[Object], None], wanted: Callable[[], bool] = lambda: True
) -> None:
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(target):
        config = _parse(target.read_text(), path) if target.exists() else {}
        change(config)
        if wanted():
            write(target, config)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """kubectl's lock: a file beside it that must not exist yet (clientcmd's lockFile)."""
    lock = path.with_name(path.name + ".lock")
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise KubeconfigError(
            f"{path} is locked by another program; if none is running, remove {lock}"
        ) from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _load(path: Path) -> Object:
    try:
        return _parse(path.read_text(), path)
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KubeconfigError(f"{path}: not YAML: {error}") from error


def _parse(text: str, path: Path) -> Object:
    import yaml

    try:
        config = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise KubeconfigError(f"{path}: not YAML: {error}") from error
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise KubeconfigError(f"{path}: not a kubeconfig")
    for plural, _ in LISTS:
        items = config.get(plural) or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise KubeconfigError(f"{path}: {plural} is not a list of named entries")
    return config


def _entry(config: Object, plural: str, name: str, path: Path) -> dict[str, Any]:
    inner = dict(LISTS)[plural]
    for item in config.get(plural) or []:
        if item.get("name") == name:
            found: dict[str, Any] = item.get(inner) or {}
            return found
    raise KubeconfigError(f"{path}: {inner} {name!r} does not exist")


def _pem(holder: dict[str, Any], field: str, path: Path) -> str:
    """`field`-data (base64) if present, else the contents of the file `field` names."""
    data = holder.get(f"{field}-data")
    if not data:
        return _text(holder, field, path)
    try:
        return base64.b64decode(str(data), validate=True).decode()
    except ValueError as error:
        raise KubeconfigError(f"{path}: {field}-data is not base64 of PEM text") from error


def _text(holder: dict[str, Any], field: str, path: Path) -> str:
    """The contents of a file; its path is relative to the kubeconfig's own folder."""
    name = holder.get(field)
    if not name:
        return ""
    try:
        return (path.parent / str(name)).read_text()
    except OSError as error:
        raise KubeconfigError(f"{path}: {field} {name}: {error.strerror}") from error


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
