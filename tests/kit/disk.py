"""A disk that loses power: an apsw VFS whose unsynced writes survive only by chance.

What was written and then synced is there after a crash. Of what was written since, each 512-byte
sector is there or not, at the seed's will, in any order: what a drive with a write cache does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import apsw

SECTOR = 512


class PowerCut(Exception):
    """The disk is off; nothing that was under way will ever finish."""


@dataclass
class Contents:
    durable: bytearray = field(default_factory=bytearray)
    volatile: bytearray = field(default_factory=bytearray)

    def sync(self) -> None:
        self.durable = bytearray(self.volatile)

    def survive(self, chance: random.Random) -> None:
        """Become what is on the platter after the cut."""
        keep = chance.random()
        length = len(self.volatile) if chance.random() < keep else len(self.durable)
        after = bytearray(self.durable[:length].ljust(length, b"\0"))
        for start in range(0, length, SECTOR):
            if chance.random() < keep:
                after[start : start + SECTOR] = self.volatile[start : start + SECTOR].ljust(
                    min(SECTOR, length - start), b"\0"
                )
        self.durable, self.volatile = after, bytearray(after)


class Disk(apsw.VFS):
    """All files of one machine, in memory. `cut_after` is the number of writes until the cut."""

    def __init__(self, name: str, cut_after: int = 1 << 60) -> None:
        self.files: dict[str, Contents] = {}
        self.writes_left = cut_after
        self.off = False
        self.name = name
        super().__init__(name, base="", iVersion=1)

    def work(self) -> bool:
        """May this write happen? The one that meets the cut raises; behind it nothing happens."""
        if self.off:
            return False
        if self.writes_left <= 0:
            self.off = True
            raise PowerCut
        self.writes_left -= 1
        return True

    def crash(self, seed: int) -> None:
        """Power comes back: the same files, as far as they survived."""
        chance = random.Random(seed)
        for contents in self.files.values():
            contents.survive(chance)
        self.writes_left = 1 << 60
        self.off = False

    def xAccess(self, pathname: str, flags: int) -> bool:
        return pathname in self.files

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if self.work():
            self.files.pop(filename, None)

    def xFullPathname(self, name: str) -> str:
        return name

    def xOpen(self, name: Any, flags: list[int]) -> DiskFile:
        filename = name.filename() if isinstance(name, apsw.URIFilename) else name
        flags[1] = flags[0]
        contents = self.files.setdefault(str(filename), Contents())
        return DiskFile(self, contents)

    def xRandomness(self, numbytes: int) -> bytes:
        return bytes(range(numbytes % 256))

    def xSleep(self, microseconds: int) -> int:
        return microseconds

    def xCurrentTimeInt64(self) -> int:
        return 210_866_760_000_000

    def xGetLastError(self) -> tuple[int, str]:
        return 0, ""


class DiskFile:
    """One open file."""

    def __init__(self, disk: Disk, contents: Contents) -> None:
        self.disk = disk
        self.contents = contents

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self.contents.volatile[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        if not self.disk.work():
            return
        volatile = self.contents.volatile
        if len(volatile) < offset:
            volatile.extend(bytes(offset - len(volatile)))
        volatile[offset : offset + len(data)] = data

    def xTruncate(self, newsize: int) -> None:
        if self.disk.work():
            del self.contents.volatile[newsize:]

    def xSync(self, flags: int) -> None:
        if self.disk.work():
            self.contents.sync()

    def xFileSize(self) -> int:
        return len(self.contents.volatile)

    def xClose(self) -> None:
        pass

    def xLock(self, level: int) -> None:
        pass

    def xUnlock(self, level: int) -> None:
        pass

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        return 0
