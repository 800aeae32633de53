"""AppArmor, where the machine has it: which profile stands for RuntimeDefault."""

from __future__ import annotations

from pathlib import Path

LOADED = Path("/sys/kernel/security/apparmor/profiles")
DEFAULTS = ("crun-default", "cri-containerd.apparmor.d", "containers-default", "docker-default")
"""Profiles that container runtimes load for this purpose, the first one found is taken."""


def loaded(path: Path = LOADED) -> dict[str, str]:
    """Name -> mode ("enforce", "complain") of each profile in the kernel."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.rpartition(" (") for line in lines)
    return {name: mode.rstrip(")") for name, _, mode in pairs if name}


def default_profile(path: Path = LOADED) -> str:
    """Empty when there is none. Versions stand behind a dash ("containers-default-0.57")."""
    names = loaded(path)
    for wanted in DEFAULTS:
        found = [name for name in names if name == wanted or name.startswith(f"{wanted}-")]
        if found:
            return sorted(found)[-1]
    return ""
