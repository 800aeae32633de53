"""The administrator's EncryptionConfiguration (apiserver.config.k8s.io/v1): which resources are
stored encrypted, and by which keys.

As upstream's --encryption-provider-config, read at start: the first provider of a list writes, all
read. Of several lists an exact resource counts before `*.group`, and that before `*.*`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sampan.api.resources import builtin
from sampan.store.encryption import (
    PLAIN,
    AesCbc,
    AesGcm,
    Chain,
    Encryption,
    Identity,
    Provider,
    Secretbox,
    Unreadable,
)

from . import documents
from .documents import BadDocument, mapping

if TYPE_CHECKING:
    from .kms import Plugin

NAME = "encryption.yaml"
VERSION, KIND = "apiserver.config.k8s.io/v1", "EncryptionConfiguration"
AES_BYTES = (16, 24, 32)
MODES: dict[str, tuple[Callable[[str, bytes], Provider], Sequence[int]]] = {
    "aesgcm": (AesGcm, AES_BYTES),
    "aescbc": (AesCbc, AES_BYTES),
    "secretbox": (Secretbox, (32,)),
}
"""Kinds of keys, and how many bytes such a key may have."""
KMS, IDENTITY = "kms", "identity"
ANY = ("*", "*")

Rules = dict[tuple[str, str], list[Provider]]
"""(plural, group) -> keys, in order."""


def read(path: Path) -> Configured | None:
    """The codec `path` describes, ready to seal; None if there is no file. Waits for the plugins
    of kms providers that seal. Raises BadDocument, whose text never shows a key."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadDocument(f"{path}: {error}") from error
    if mode & 0o077:
        raise BadDocument(f"{path}: others may read the keys in it; run: chmod 600 {path}")
    return documents.load(path, _begin, secret=True)


def _begin(raw: Any) -> Configured:
    made = build(raw)
    try:
        for plugin in made.plugins:
            plugin.begin()
    except Unreadable as error:
        raise BadDocument(str(error)) from None
    return made


def build(raw: Any) -> Configured:
    """The codec of a decoded file. Raises BadDocument."""
    top = documents.versioned(raw, (VERSION,), KIND, ("resources",))
    rules: Rules = {}
    plugins: dict[str, Plugin] = {}
    for at, item in enumerate(_required(top.get("resources"), "resources")):
        path = f"resources[{at}]"
        found = mapping(item, path, ("resources", "providers"))
        names = _required(found.get("resources"), f"{path}.resources")
        providers = _providers(found.get("providers"), f"{path}.providers", plugins)
        for place, name in enumerate(names):
            which = _parse_resource(name, f"{path}.resources[{place}]")
            _check_masks(rules, which, name)
            rules.setdefault(which, []).extend(providers)
    chains = {which: Chain(providers) for which, providers in rules.items()}
    known: dict[str, tuple[str, str]] = {}
    for kind in builtin():
        # Events are stored once, as those of the core group.
        known.setdefault(kind.storage, (kind.plural, kind.group))
        if not kind.group:
            known[kind.storage] = (kind.plural, "")
    writing = [chain.writer for chain in chains.values()]
    used = [plugin for plugin in plugins.values() if plugin.provider in writing]
    return Configured(chains, known, used)


class Configured(Encryption):
    """Finds the chain by the first parts of a storage key, and keeps what it has found."""

    def __init__(
        self,
        chains: Mapping[tuple[str, str], Chain],
        known: Mapping[str, tuple[str, str]],
        plugins: Sequence[Plugin],
    ) -> None:
        super().__init__(self._find, self._name)
        self.plugins = plugins
        """Those that seal: they have to be begun, and asked now and then."""
        self._chains = chains
        self._known = known
        self._found: dict[tuple[str, str], Chain] = {}

    def _find(self, key: str) -> Chain:
        which = self._resource(key)
        chain = self._found.get(which)
        if chain is None:
            chains = self._chains
            chain = chains.get(which) or chains.get(("*", which[1])) or chains.get(ANY) or PLAIN
            self._found[which] = chain
        return chain

    def _resource(self, key: str) -> tuple[str, str]:
        """(plural, group) of /registry/PLURAL/... or /registry/GROUP/PLURAL/..."""
        parts = key.split("/", 4)
        found = self._known.get(f"/registry/{parts[2]}/") if len(parts) > 3 else None
        if found is None and len(parts) > 4:
            prefix = f"/registry/{parts[2]}/{parts[3]}/"
            found = self._known.get(prefix, (parts[3], parts[2]))
        return found or ("", "")

    def is_of(self, key: str, provider: Provider) -> bool:
        """Does this provider seal what is stored at `key`?"""
        return self._find(key).writer is provider

    def _name(self, key: str) -> str:
        plural, group = self._resource(key)
        return f"{plural}.{group}".rstrip(".")


def _parse_resource(name: Any, path: str) -> tuple[str, str]:
    """(plural, group) of `secrets`, `deployments.apps`, `*.`, `*.apps` or `*.*`."""
    if not isinstance(name, str) or not name:
        raise BadDocument(f"{path}: Required value")
    if name != name.lower():
        raise BadDocument(f"{path}: resource name should not contain capital letters: {name}")
    if name == "*":
        raise BadDocument(
            f"{path}: use '*.' to encrypt all the resources from core API group or *.* to encrypt"
            " all resources"
        )
    plural, _, group = name.partition(".")
    if group == "events.k8s.io":
        raise BadDocument(
            f"{path}: '*.events.k8s.io' objects are stored using the 'events' API group in etcd."
            " Use 'events' instead in the config file"
        )
    if group == "extensions":
        raise BadDocument(
            f"{path}: 'extensions' group has been removed and cannot be used for encryption"
        )
    if group == "*" and plural != "*":
        raise BadDocument(
            f"{path}: encrypting the same resource across groups is not supported: {name}"
        )
    return plural, group


def _check_masks(rules: Rules, which: tuple[str, str], name: str) -> None:
    for mask in (("*", which[1]), ANY):
        if mask in rules and mask != which:
            earlier = ".".join(mask)
            raise BadDocument(f'resource "{name}" is masked by earlier rule "{earlier}"')


def _providers(raw: Any, path: str, plugins: dict[str, Plugin]) -> list[Provider]:
    out: list[Provider] = []
    known = (*MODES, IDENTITY, KMS)
    for at, item in enumerate(_required(raw, path)):
        where = f"{path}[{at}]"
        found = mapping(item, where, known)
        if len(found) != 1:
            raise BadDocument(
                f"{where}: one provider of {', '.join(known)} is required, and"
                " more than one should be split into different list elements"
            )
        (mode, settings), *_ = found.items()
        if mode == IDENTITY:
            out.append(Identity())
            continue
        if mode == KMS:
            out.append(_kms(settings, f"{where}.kms", plugins))
            continue
        keys = mapping(settings, f"{where}.{mode}", ("keys",))
        make, sizes = MODES[mode]
        for place, key in enumerate(_required(keys.get("keys"), f"{where}.{mode}.keys")):
            out.append(make(*_key(key, f"{where}.{mode}.keys[{place}]", sizes)))
    return out


def _kms(raw: Any, path: str, plugins: dict[str, Plugin]) -> Provider:
    found = mapping(raw, path, ("apiVersion", "name", "endpoint", "cachesize", "timeout"))
    version, name = found.get("apiVersion") or "v1", found.get("name")
    if version == "v1":
        raise BadDocument(
            f"{path}.apiVersion: Invalid value: KMSv1 is deprecated and will only receive security"
            " updates going forward. Use KMSv2 instead."
        )
    if version != "v2":
        why = f"unsupported apiVersion {version} for KMS provider, only v1 and v2 are supported"
        raise BadDocument(f"{path}.apiVersion: Invalid value: {why}")
    if not isinstance(name, str) or not name:
        why = "name is a mandatory field for a kms provider"
        raise BadDocument(f"{path}.name: Required value: {why}")
    if ":" in name:
        why = f"invalid KMS provider name {name}, must not contain ':'"
        raise BadDocument(f"{path}.name: Invalid value: {why}")
    if name in plugins:
        why = f"duplicate KMS provider name {name}, names must be unique"
        raise BadDocument(f"{path}.name: Invalid value: {why}")
    if found.get("cachesize") is not None:
        why = "cachesize is not supported in v2"
        raise BadDocument(f"{path}.cachesize: Invalid value: {why}")
    # Imported only where there is a plugin.
    from .kms import TIMEOUT_S, Plugin

    timeout_s = TIMEOUT_S
    if found.get("timeout"):
        timeout_s = documents.duration_s(found["timeout"], f"{path}.timeout")
    plugin = plugins[name] = Plugin(name, _socket(found.get("endpoint"), path), timeout_s)
    return plugin.provider


def _socket(raw: Any, path: str) -> Path:
    """The socket's file of `unix:///FILE`."""
    if not isinstance(raw, str) or not raw:
        why = "endpoint is a mandatory field for a kms provider"
        raise BadDocument(f"{path}.endpoint: Required value: {why}")
    url = urlsplit(raw)
    if url.scheme != "unix":
        why = f'unsupported scheme "{url.scheme}" for KMS provider, only unix is supported'
        raise BadDocument(f"{path}.endpoint: Invalid value: {why}")
    if url.netloc or not url.path:
        why = "invalid endpoint for kms provider, not unix:///FILE"
        raise BadDocument(f"{path}.endpoint: Invalid value: {why}")
    return Path(url.path)


def _key(raw: Any, path: str, lengths: Sequence[int]) -> tuple[str, bytes]:
    found = mapping(raw, path, ("name", "secret"))
    name, text = found.get("name"), found.get("secret")
    if not isinstance(name, str) or not name:
        raise BadDocument(f"{path}.name: Required value: name is a mandatory field for a key")
    if not isinstance(text, str) or not text:
        raise BadDocument(f"{path}.secret: Required value: secret is a mandatory field for a key")
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadDocument(f"{path}.secret: secrets must be base64 encoded") from None
    if len(secret) not in lengths:
        sizes = " ".join(map(str, lengths))
        raise BadDocument(
            f"{path}.secret: secret is not of the expected length, got {len(secret)}, expected one"
            f" of [{sizes}]"
        )
    return name, secret


def _required(raw: Any, path: str) -> Sequence[Any]:
    if not isinstance(raw, list) or not raw:
        raise BadDocument(f"{path}: Required value: at least one {path} is required")
    return raw
