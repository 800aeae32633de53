"""Which servers are asked for a registry's images, as the administrator's files say.

containerd's form: FOLDER/<registry>/hosts.toml, or FOLDER/_default/hosts.toml for all others. The
hosts in it are asked in their order, then the registry itself. docker's form is understood too:
FOLDER/<registry>/*.crt are authorities, NAME.cert and NAME.key a client's certificate. The first
folder that knows a registry decides. Files are read anew for each image: no restart is needed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from .interface import RegistryFailure
from .reference import DEFAULT_DOMAIN

HUB = "registry-1.docker.io"
# A registry's file beyond these is none that somebody wrote.
FILE_BYTES_MAX = 1024 * 1024
HOSTS_MAX = 64
PULL, RESOLVE = "pull", "resolve"
_CAPABILITIES = frozenset({PULL, RESOLVE})


class Endpoint(Struct, frozen=True):
    """One server of a registry's images."""

    url: str
    """Up to and with "/v2", without a slash at the end."""
    capabilities: frozenset[str] = _CAPABILITIES
    """"resolve" names to digests, "pull" what a digest stands for."""
    verify: bool = True
    authorities: Sequence[Path] = ()
    """Of its certificate, besides the machine's own."""
    client: Sequence[tuple[Path, Path]] = ()
    """Certificates and keys to show it."""
    headers: Sequence[tuple[str, str]] = ()
    is_registry: bool = True
    """The registry itself, which alone receives a pod's credentials."""


def endpoints(
    domain: str, folders: Sequence[Path], insecure: Collection[str] = ()
) -> Sequence[Endpoint]:
    """In the order they are to be asked. Raises RegistryFailure for a file that is malformed."""
    plain = _plain(domain, insecure)
    for folder in folders:
        for name in (*_folder_names(domain), "_default"):
            place = folder / name
            found = _read_hosts(place, domain, plain)
            if found is None and name != "_default":
                found = _read_certificates(place, plain)
            if found is not None:
                return found
    return (Endpoint(f"{plain}/v2"),)


def _plain(domain: str, insecure: Collection[str]) -> str:
    """The registry's own address; without TLS on loopback and where we were told so."""
    host = urlsplit(f"//{domain}").hostname or ""
    without = domain in insecure or host in insecure or is_loopback(host)
    return f"{'http' if without else 'https'}://{HUB if domain == DEFAULT_DOMAIN else domain}"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _folder_names(domain: str) -> Sequence[str]:
    """A port may be written as in a name of a file: "r.io:5000" or "r.io_5000_"."""
    host, colon, port = domain.rpartition(":")
    return (domain, f"{host}_{port}_") if colon and port.isdigit() else (domain,)


def _read_hosts(folder: Path, domain: str, plain: str) -> Sequence[Endpoint] | None:
    path = folder / "hosts.toml"
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RegistryFailure(f"{path}: {error.strerror}") from error
    # Nobody who has no such file waits for its module at boot.
    import tomllib

    try:
        if len(data) > FILE_BYTES_MAX:
            raise ValueError("the file is too large")
        document = tomllib.loads(data.decode())
        hosts = document.get("host", {})
        if not isinstance(hosts, dict) or len(hosts) > HOSTS_MAX:
            raise ValueError("`host` has to be a table of at most 64 hosts")
        found = [_endpoint(folder, url, table, own=False) for url, table in hosts.items()]
        server = document.get("server", plain)
        return (*found, _endpoint(folder, server, document, own=True))
    except (ValueError, UnicodeDecodeError) as error:
        raise RegistryFailure(f"{path}: {error}") from error


def _endpoint(folder: Path, url: Any, table: Any, *, own: bool) -> Endpoint:
    """Raises ValueError."""
    if not isinstance(url, str) or not isinstance(table, dict):
        raise ValueError(f"host {url!r} is malformed")
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"host {url!r} is no http or https address")
    path = parts.path.rstrip("/")
    if not table.get("override_path") and not path.endswith("/v2"):
        path += "/v2"
    wanted = frozenset(_texts(table, "capabilities")) or _CAPABILITIES
    headers = table.get("header") or {}
    if not isinstance(headers, dict):
        raise ValueError("`header` has to be a table")
    return Endpoint(
        url=f"{parts.scheme}://{parts.netloc}{path}",
        # "push" is allowed in the file, and nothing to us.
        capabilities=wanted & _CAPABILITIES,
        verify=not table.get("skip_verify", False),
        authorities=[folder / name for name in _texts(table, "ca")],
        client=_pairs(folder, table.get("client") or ()),
        headers=[(name, text) for name in headers for text in _texts(headers, name)],
        is_registry=own,
    )


def _texts(table: Mapping[str, Any], name: str) -> Sequence[str]:
    value = table.get(name, ())
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"`{name}` has to be a text or a list of texts")
    return found


def _pairs(folder: Path, value: Any) -> Sequence[tuple[Path, Path]]:
    """ "both.pem", ["both.pem", ...] or [["cert.pem", "key.pem"], ...]."""
    rows = [value] if isinstance(value, str) else value
    if not isinstance(rows, list | tuple):
        raise ValueError("`client` has to be a list")
    found = []
    for row in rows:
        names = [row, row] if isinstance(row, str) else row
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("`client` has to be a list of files or pairs of files")
        if len(names) != 2:
            raise ValueError("`client` needs a certificate and a key")
        found.append((folder / names[0], folder / (names[1] or names[0])))
    return found


def _read_certificates(folder: Path, plain: str) -> Sequence[Endpoint] | None:
    """docker's form. None when the folder has no such files."""
    authorities = sorted(folder.glob("*.crt"))
    client = [
        (path, path.with_suffix(".key"))
        for path in sorted(folder.glob("*.cert"))
        if path.with_suffix(".key").exists()
    ]
    if not authorities and not client:
        return None
    return (Endpoint(f"{plain}/v2", authorities=authorities, client=client),)
