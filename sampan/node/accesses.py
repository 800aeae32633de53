"""Who may use an image that is here already: those who could pull it (KEP-2535).

As upstream has it by default (NeverVerifyPreloadedImages): what the agent pulled without secrets,
and what came here in another way (load, push, `sampan image pull`), is everybody's. What it pulled
with a secret is for pods that show that secret, or one with the same credentials; others pull
again, and the registry decides. One small file per image pulled so; nothing is kept of others.
The other policies verify nothing, all, or all that came otherwise and is not on a list.

What is being pulled with a secret is written down first, in `pulling/`: an image whose agent died,
or whose pod went, in the moment between its arrival and its record is nobody's until somebody
pulls it (ImagePullIntent).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct

from sampan.api.errors import Object
from sampan.runtime.interface import Credentials, Image
from sampan.runtime.reference import is_id, parse

from .config import NodeConfig
from .keyring import Key

# Secrets that are remembered of one image; the oldest are forgotten, and pull again.
SECRETS_MAX = 100
# imagePullCredentialsVerificationPolicy
NEVER_VERIFY = "NeverVerify"
NEVER_VERIFY_PRELOADED = "NeverVerifyPreloadedImages"
NEVER_VERIFY_LISTED = "NeverVerifyAllowlistedImages"
ALWAYS_VERIFY = "AlwaysVerify"
RECORDING = (NEVER_VERIFY_LISTED, ALWAYS_VERIFY)
"""Those for which it matters that nobody needed credentials."""
POLICIES = (NEVER_VERIFY, NEVER_VERIFY_PRELOADED, *RECORDING)
EVERYBODY: dict[str, Any] = {"everybody": True}
NOBODY: dict[str, Any] = {"secrets": [], "hashes": []}
FOLDER = "accesses"
"""Below the node's data."""
PULLING = "pulling"


class Coming(Struct):
    """An image that is being pulled with a secret."""

    name: str
    before: str
    """The id of the image that had the name until then, or ""."""
    pulls: int = 0


class Accesses:
    """The agent's records, below its data folder."""

    def __init__(
        self,
        folder: Path,
        policy: str = NEVER_VERIFY_PRELOADED,
        listed: Sequence[str] = (),
        beside: Callable[[], Iterable[Path]] = tuple,
    ) -> None:
        """`listed` are the repositories of images that came otherwise and are everybody's, where
        the policy asks for a list; one that ends in "*" is the beginning of several. `beside` gives
        the records' folders of this machine's other nodes, whose images are the same: what one of
        them pulled with a secret has come to all."""
        self._folder = folder
        self._policy = policy
        self._listed = listed
        self._beside = beside
        self._known: dict[str, dict[str, Any]] | None = None
        self._coming: dict[str, Coming] = {}

    def settle(self, find: Callable[[str], Image | None]) -> None:
        """What an earlier agent was pulling, where it came."""
        folder = self._folder / PULLING
        for path in folder.glob("*.json") if folder.is_dir() else ():
            with suppress(orjson.JSONDecodeError, TypeError):
                coming = Coming(**orjson.loads(path.read_bytes()))
                image = find(coming.name)
                if image is not None and image.id not in {coming.before, *self._read()}:
                    self._read()[image.id] = {_repository(coming.name): NOBODY}
                    self._write(image.id)
            path.unlink(missing_ok=True)
        for image_id in [each for each in self._read() if find(each) is None]:
            # Another node, or a person, has removed it.
            self.forget(image_id)

    def begin(self, name: str, before: Image | None) -> None:
        """It is about to be pulled with a secret; `before` is what has the name now."""
        coming = self._coming.get(name)
        if coming is None:
            coming = self._coming[name] = Coming(name, before.id if before is not None else "")
            _replace(self._intent(name), {"name": name, "before": coming.before})
        coming.pulls += 1

    def end(self, name: str) -> None:
        """It was pulled and noted, or could not be."""
        coming = self._coming[name]
        coming.pulls -= 1
        if not coming.pulls:
            del self._coming[name]
            self._intent(name).unlink(missing_ok=True)

    def _is_coming(self, image: Image) -> bool:
        """Its arrival is not noted yet."""
        coming = [*self._coming.values(), *self._coming_beside()]
        if not coming:
            return False
        places = {_repository(name) for name in (*image.tags, *image.digests)}
        return any(_repository(each.name) in places and each.before != image.id for each in coming)

    def _coming_beside(self) -> Iterator[Coming]:
        """What other nodes are pulling, or were when they were stopped."""
        for folder in self._beside():
            for path in (folder / PULLING).glob("*.json"):
                with suppress(FileNotFoundError, orjson.JSONDecodeError, TypeError):
                    yield Coming(**orjson.loads(path.read_bytes()))

    def _noted(self, image_id: str) -> dict[str, Any]:
        """Own records of the image, else another node's; nothing where there are none."""
        if found := self._read().get(image_id):
            return found
        for folder in self._beside():
            with suppress(FileNotFoundError):
                return _read_file(folder / self._path(image_id).name)
        return {}

    def is_open(self, name: str, image: Image) -> bool:
        """Whether any pod may use the image under this name."""
        return self._record(name, image) is EVERYBODY

    def allows(self, name: str, image: Image, keys: Iterable[Key]) -> bool:
        record = self._record(name, image)
        if record is EVERYBODY:
            return True
        return any(
            _hash(key.credentials) in record["hashes"] or _place(key.secret) in record["secrets"]
            for key in keys
        )

    def note(self, name: str, image: Image, key: Key | None) -> None:
        """The agent has pulled it, with these credentials."""
        known = self._read()
        repository = _repository(name)
        old = known.get(image.id, {}).get(repository, {})
        if key is None:
            if not self._noted(image.id) and self._policy not in RECORDING:
                return
            record = EVERYBODY
        elif old.get("everybody"):
            return
        else:
            place, hashed = _place(key.secret), _hash(key.credentials)
            record = {
                "secrets": _with(old.get("secrets", ()), place),
                "hashes": _with(old.get("hashes", ()), hashed),
            }
        if record == old:
            return
        known.setdefault(image.id, {})[repository] = record
        self._write(image.id)

    def forget(self, image_id: str) -> None:
        """The image is gone."""
        if self._read().pop(image_id, None) is not None:
            self._path(image_id).unlink(missing_ok=True)

    def _record(self, name: str, image: Image) -> dict[str, Any]:
        if self._policy == NEVER_VERIFY:
            return EVERYBODY
        found = self._noted(image.id)
        trusted = self._policy == NEVER_VERIFY_PRELOADED or self._is_listed(_repository(name))
        if trusted and (image.pinned or not (found or self._is_coming(image))):
            return EVERYBODY
        # It was pulled, but not under this name (or by its id): that has to be asked for.
        record = found.get(_repository(name), NOBODY)
        return EVERYBODY if record.get("everybody") else record

    def _is_listed(self, repository: str) -> bool:
        return self._policy == NEVER_VERIFY_LISTED and any(
            repository.startswith(entry[:-1]) if entry.endswith("*") else repository == entry
            for entry in self._listed
        )

    def _path(self, image_id: str) -> Path:
        return self._folder / f"{image_id.removeprefix('sha256:')}.json"

    def _read(self) -> dict[str, dict[str, Any]]:
        if self._known is None:
            self._known = {}
            for path in self._folder.glob("*.json") if self._folder.is_dir() else ():
                self._known[f"sha256:{path.stem}"] = _read_file(path)
        return self._known

    def _write(self, image_id: str) -> None:
        _replace(self._path(image_id), self._read()[image_id])

    def _intent(self, name: str) -> Path:
        return self._folder / PULLING / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def accesses_of(config: NodeConfig) -> Accesses:
    """As the node's administrator has it."""
    settings = config.settings
    return Accesses(
        config.data / FOLDER,
        settings.image_verification,
        settings.image_allowlist,
        lambda: (folder / FOLDER for folder in config.beside()),
    )


def _read_file(path: Path) -> dict[str, Any]:
    """By repository. Raises FileNotFoundError."""
    try:
        found: dict[str, Any] = orjson.loads(path.read_bytes())
        return found
    except orjson.JSONDecodeError:
        # As it would be without a record of it: nobody's until somebody pulls.
        return {"": NOBODY}


def _replace(path: Path, value: Any) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_bytes(orjson.dumps(value))
    os.replace(draft, path)


def _with(values: Sequence[Any], value: Any) -> list[Any]:
    return [*(item for item in values if item != value), value][-SECRETS_MAX:]


def _place(secret: Object) -> list[str]:
    meta = secret.get("metadata") or {}
    return [meta.get("namespace", ""), meta.get("name", ""), meta.get("uid", "")]


def _hash(credentials: Credentials) -> str:
    parts = (
        credentials.username,
        credentials.password,
        credentials.token,
        credentials.identity_token,
    )
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _repository(name: str) -> str:
    return "" if is_id(name) else parse(name).repository
