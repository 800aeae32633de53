"""What a registry's repositories hold: tags, manifests, and the blobs that were pushed to each.

    ROOT/repositories/<sha256 of the name>.json

A file each, replaced as a whole; all are read at the first request. A blob is seen only through a
repository it was pushed or mounted to, because who may read one repository may not read all.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct, field
from msgspec.structs import asdict

from .blobs import Rejected

REPOSITORIES_MAX = 10_000
TAGS_MAX = 10_000
"""Of one repository; also of its manifests."""


class Repository(Struct):
    name: str
    tags: dict[str, str] = field(default_factory=dict)
    """-> digest of a manifest"""
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    """digest -> what `describe` says of it"""
    blobs: dict[str, float] = field(default_factory=dict)
    """digest -> when it came, in seconds since the epoch"""
    replaced: dict[str, float] = field(default_factory=dict)
    """digest of a manifest whose last tag went to another -> when"""


class Repositories:
    """The records of one depot."""

    def __init__(self, root: Path) -> None:
        self._root = root / "repositories"
        self._known: dict[str, Repository] = {}

    def open(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._root.glob("*.json"):
            repository = Repository(**orjson.loads(path.read_bytes()))
            self._known[repository.name] = repository

    def all(self) -> Mapping[str, Repository]:
        return self._known

    def find(self, name: str) -> Repository:
        """Raises Rejected."""
        found = self._known.get(name)
        if found is None:
            raise Rejected(404, "NAME_UNKNOWN", "repository name not known to registry")
        return found

    def make(self, name: str) -> Repository:
        """The one there is, or a new one; it is kept when something is put into it."""
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= REPOSITORIES_MAX:
                raise Rejected(507, "DENIED", f"more than {REPOSITORIES_MAX} repositories")
            found = Repository(name)
        return found

    def link(self, name: str, digest: str) -> None:
        """A blob belongs to the repository from now on."""
        repository = self.make(name)
        repository.blobs[digest] = time.time()
        self.save(repository)

    def save(self, repository: Repository) -> None:
        """Durably. One without anything in it goes."""
        path = self._path(repository.name)
        if not (repository.tags or repository.manifests or repository.blobs):
            self._known.pop(repository.name, None)
            path.unlink(missing_ok=True)
            return
        self._known[repository.name] = repository
        draft = path.with_suffix(".new")
        with open(draft, "wb") as file:
            file.write(orjson.dumps(asdict(repository)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)

    def _path(self, name: str) -> Path:
        return self._root / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def describe(document: Mapping[str, Any], media_type: str, size: int) -> dict[str, Any]:
    """A manifest's record: what has to be known without reading it."""
    subject = document.get("subject")
    return {
        "media_type": media_type,
        "size": size,
        "blobs": list(blobs_of(document)),
        "children": [entry.get("digest", "") for entry in document.get("manifests") or ()],
        "subject": subject.get("digest", "") if isinstance(subject, dict) else "",
        "artifact_type": _artifact_type(document),
        "annotations": document.get("annotations") or {},
    }


def _artifact_type(document: Mapping[str, Any]) -> str:
    config = document.get("config")
    fallback = config.get("mediaType", "") if isinstance(config, dict) else ""
    return str(document.get("artifactType") or fallback)


def blobs_of(document: Mapping[str, Any]) -> Iterable[str]:
    """What a manifest needs to be there: all but layers that are to be had elsewhere."""
    config = document.get("config")
    if isinstance(config, dict):
        yield str(config.get("digest"))
    for layer in document.get("layers") or ():
        if isinstance(layer, dict) and not layer.get("urls"):
            yield str(layer.get("digest"))
