"""Which plugins make up the chain: what the administrator's `admission.yaml` enables and disables
(`configuration` tells of the files)."""

from __future__ import annotations

from pathlib import Path

from .. import documents
from . import configuration
from .plugin import Plugin

FILE = "admission.yaml"
KEPT = frozenset({"RBACEscalation", "CertificateRequestor", "DeviceClaims"})
"""Checks that upstream makes elsewhere, where no flag switches them off."""

ABSENT = frozenset({"AlwaysAdmit", "AlwaysDeny", "NodeDeclaredFeatureValidator"})
"""Plugins of upstream's that are not here: whoever wants them off has that."""


def allowed(chain: tuple[Plugin, ...], folder: Path | None) -> tuple[Plugin, ...]:
    """The chain with what is enabled, without what is disabled. Raises ValueError for a file that
    is wrong: a cluster must not start otherwise than asked."""
    path = None if folder is None else folder / FILE
    if path is None or not path.exists():
        return chain
    from . import optional

    raw = documents.read(path)
    if not isinstance(raw, dict) or not raw or raw.keys() - {"enable", "disable"}:
        raise ValueError(f"{FILE}: not lists of plugins to `enable` and to `disable`")
    known = {plugin.name for plugin in chain} - KEPT | optional.OPTIONAL.keys()
    chosen = {}
    for word in ("enable", "disable"):
        names = raw.get(word) or []
        if not isinstance(names, list):
            raise ValueError(f"{FILE}: {word} is no list")
        for name in names:
            served = known | ABSENT if word == "disable" else known
            if not isinstance(name, str) or name not in served:
                raise ValueError(f'{FILE}: {word}-admission-plugins plugin "{name}" is unknown')
        chosen[word] = set(names)
    both = sorted(chosen["enable"] & chosen["disable"])
    if both:
        raise ValueError(
            f"{FILE}: {both} in enable-admission-plugins and disable-admission-plugins overlapped"
        )
    made = [_make(name, folder) for name in optional.OPTIONAL if name in chosen["enable"]]
    whole = optional.inserted(chain, made)
    return tuple(plugin for plugin in whole if plugin.name not in chosen["disable"])


def _make(name: str, folder: Path | None) -> Plugin:
    from . import optional

    try:
        return optional.make(configuration.settings_of(folder, name))
    except (OSError, ValueError) as error:
        raise ValueError(f"{configuration.FILE}: {name}: {error}") from error
