"""The node's data at /var/lib/kubelet, in the node's own mount namespace: where drivers that are
pods look for it (plugins_registry, plugins, pods), as their manifests have it.

Made when the first pod or driver asks for it. The host sees an empty directory and nothing else.
"""

from __future__ import annotations

from pathlib import Path

from .kernel import Kernel

ROOT = Path("/var/lib/kubelet")


class Kubelet:
    """One node's. `root` is another in tests, whose drivers are no pods."""

    def __init__(self, data: Path, kernel: Kernel, root: Path = ROOT) -> None:
        self._data = data
        self._kernel = kernel
        self._root = root
        self._shown = root == data

    def covers(self, path: Path) -> bool:
        """Is it in there?"""
        return path.is_relative_to(self._root)

    def show(self) -> None:
        """Raises OSError."""
        if self._shown:
            return
        if self._root not in self._kernel.mounted():
            self._root.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._kernel.bind(self._data, self._root)
        self._shown = True

    def path(self, path: Path) -> Path:
        """A path below the data as drivers know it. Raises OSError."""
        self.show()
        return self._root / path.relative_to(self._data)

    def inside(self, path: str) -> Path:
        """A path that a driver told, as this process reaches it. Raises OSError."""
        if self.covers(Path(path)):
            self.show()
        return Path(path)
