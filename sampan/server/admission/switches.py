"""Which plugins of the chain the administrator has switched off.

`admission.yaml` in the administrator's folder is upstream's --disable-admission-plugins as a file:

    disable: [DenyServiceExternalIPs]
"""

from __future__ import annotations

from pathlib import Path

from .plugin import Plugin

FILE = "admission.yaml"
KEPT = frozenset({"RBACEscalation", "CertificateRequestor", "DeviceClaims"})
"""Checks that upstream makes elsewhere, where no flag switches them off."""


def allowed(chain: tuple[Plugin, ...], folder: Path | None) -> tuple[Plugin, ...]:
    """The chain without what is switched off. Raises ValueError for a file that is wrong: a
    cluster must not start otherwise than asked."""
    path = None if folder is None else folder / FILE
    if path is None or not path.exists():
        return chain
    import yaml

    raw = yaml.safe_load(path.read_text())
    names = raw.get("disable") if isinstance(raw, dict) else None
    if not isinstance(names, list) or raw.keys() - {"disable"}:
        raise ValueError(f"{FILE}: not a list of plugins to `disable`")
    known = {plugin.name for plugin in chain} - KEPT
    for name in names:
        if name not in known:
            raise ValueError(f'{FILE}: disable-admission-plugins plugin "{name}" is unknown')
    return tuple(plugin for plugin in chain if plugin.name not in names)
