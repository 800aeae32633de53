"""Which pod has which address of this node's share, kept on disk.

One symbolic link per address, DIR/10.244.0.5 -> pod uid: the kernel makes and removes a link
whole or not at all, so that the record is true after kill -9 at any instant, and giving out one
address touches one file whatever the number of pods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path


class AddressesExhausted(Exception):
    """Every address of the node's share is given out. Worded as upstream's IPAM says it."""


class Addresses:
    """Addresses of one network. The first one is the gateway's and is never given out.

    They are given out in turn rather than lowest first, so that an address comes back as late as
    possible: peers may still remember the pod that had it.
    """

    def __init__(self, folder: Path, network: IPv4Network) -> None:
        if network.num_addresses < 4:
            raise ValueError(f"pod network {network} has no room for pods")
        self._folder = folder
        self._first = int(network.network_address) + 2
        self._last = int(network.broadcast_address) - 1
        self._next = self._first
        self._taken: set[int] = set()
        self._by_pod: dict[str, int] = {}

    @property
    def pods(self) -> Mapping[str, str]:
        """Pod uid -> address."""
        return {uid: str(IPv4Address(number)) for uid, number in self._by_pod.items()}

    def read(self) -> None:
        """Take over what is on disk; records of another network, or doubled ones, are removed."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._taken.clear()
        self._by_pod.clear()
        for path, number in sorted(self._records(), key=lambda record: record[1]):
            uid = str(path.readlink())
            if not self._first <= number <= self._last or uid in self._by_pod:
                path.unlink()
                continue
            self._taken.add(number)
            self._by_pod[uid] = number
        self._next = max(self._taken, default=self._first - 1) + 1

    def give(self, uid: str) -> str:
        """The pod's address, a new one if it has none. Raises AddressesExhausted, OSError."""
        number = self._by_pod.get(uid)
        if number is None:
            number = self._find_free()
            self._path(number).symlink_to(uid)
            self._taken.add(number)
            self._by_pod[uid] = number
            self._next = number + 1
        return str(IPv4Address(number))

    def get(self, uid: str) -> str:
        """The pod's address, "" if it has none."""
        number = self._by_pod.get(uid)
        return "" if number is None else str(IPv4Address(number))

    def take_back(self, uid: str) -> None:
        number = self._by_pod.pop(uid, None)
        if number is not None:
            self._path(number).unlink(missing_ok=True)
            self._taken.discard(number)

    def _path(self, number: int) -> Path:
        return self._folder / str(IPv4Address(number))

    def _records(self) -> Iterator[tuple[Path, int]]:
        for path in self._folder.iterdir():
            try:
                number = int(IPv4Address(path.name))
            except ValueError:
                continue
            if path.is_symlink():
                yield path, number

    def _find_free(self) -> int:
        count = self._last - self._first + 1
        if len(self._taken) < count:
            for step in range(count):
                number = self._first + (self._next - self._first + step) % count
                if number not in self._taken:
                    return number
        first, last = IPv4Address(self._first - 1), IPv4Address(self._last)
        raise AddressesExhausted(
            "failed to allocate for range 0: no IP addresses available in range set: "
            f"{first}-{last}"
        )
