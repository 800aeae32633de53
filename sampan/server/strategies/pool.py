"""Numbers given out one at a time: service addresses and node ports."""

from __future__ import annotations

import random


class Pool:
    """Numbers from `first` on, `size` of them. The lower `static` ones are left to those who ask
    by number for as long as others are free (KEP-3070, KEP-3668)."""

    def __init__(self, first: int, size: int, static: int, taken: set[int] | None = None) -> None:
        """`taken` may be shared by pools whose numbers are the same."""
        self.first = first
        self.size = size
        self.static = static
        self._taken: set[int] = set() if taken is None else taken

    def __contains__(self, number: int) -> bool:
        return self.first <= number < self.first + self.size

    def __len__(self) -> int:
        """How many are taken."""
        return len(self._taken)

    def take(self, number: int) -> bool:
        """Take this one; False when it is taken."""
        if number in self._taken:
            return False
        self._taken.add(number)
        return True

    def take_any(self) -> int | None:
        """Take one that is free, at random so that a freed one is not reused at once; None when
        all are taken."""
        upper = self._free(self.first + self.static, self.size - self.static)
        number = upper if upper is not None else self._free(self.first, self.static)
        if number is not None:
            self._taken.add(number)
        return number

    def _free(self, first: int, size: int) -> int | None:
        if size <= 0:
            return None
        start = random.randrange(size)
        # Ends after at most one more step than there are numbers taken.
        for step in range(min(size, len(self._taken) + 1)):
            number = first + (start + step) % size
            if number not in self._taken:
                return number
        return None

    def release(self, number: int) -> None:
        self._taken.discard(number)


def static_band(size: int, divisor: int, least: int, most: int) -> int:
    """How many numbers at the start are kept for static use; 0 in a range too small for it."""
    if size < least:
        return 0
    return min(max(least, size // divisor), most)
