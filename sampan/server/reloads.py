"""How often the administrator's files about authentication and authorisation were taken while the
server runs, under upstream's names: whoever changes one wants to know that it is in force.

Memory: two digests and four pairs of numbers. Nothing is shown before the first change.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import Server

FILES: Mapping[str, str] = {
    "authentication": "authentication.yaml",
    "authorization": "authorization.yaml",
}


class Reloads:
    """The reloads of one server. Made when it starts, as changes are told from what it read."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._paths = {part: folder / name for part, name in FILES.items()}
        self._digests = {part: _digest(path) for part, path in self._paths.items()}
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}
        identity = hashlib.sha256(f"apiserver-{socket.gethostname()}".encode())
        self._labels = f'apiserver_id_hash="sha256:{identity.hexdigest()}"'
        server.expositions.append(self.exposition)

    def note(self, part: str, *, failed: bool) -> None:
        """A file was read anew. One that has not changed counts for nothing."""
        digest = _digest(self._paths[part])
        if digest == self._digests[part]:
            return
        if not failed:
            # What failed is tried again, and may be good then.
            self._digests[part] = digest
        key = (part, "failure" if failed else "success")
        count, _ = self._seen.get(key, (0, 0.0))
        self._seen[key] = (count + 1, self._server.clock.now())

    def exposition(self) -> str:
        """As Prometheus text."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for part in FILES:
            found = {status: seen for (of, status), seen in self._seen.items() if of == part}
            if not found:
                continue
            prefix = f"apiserver_{part}_config_controller_"
            for name, kind, which in (
                ("automatic_reloads_total", "counter", 0),
                ("automatic_reload_last_timestamp_seconds", "gauge", 1),
            ):
                yield f"# TYPE {prefix}{name} {kind}"
                for status, seen in sorted(found.items()):
                    yield f'{prefix}{name}{{{self._labels},status="{status}"}} {seen[which]}'
            yield f"# TYPE {prefix}last_config_info gauge"
            digest = self._digests[part]
            yield f'{prefix}last_config_info{{{self._labels},hash="sha256:{digest}"}} 1'


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
