"""nftables: one transaction per call, all of it or nothing.

Small changes go to the kernel as they are (`nftwire`), everything else through `nft -f -`. `Nft`
carries out one at a time; what is asked meanwhile waits in the caller (the proxy collects
changes while a transaction runs, so that many become one). Scripts go by standard input, never
through a shell. A table is one cluster's own: nobody else's is read, listed or changed.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from itertools import islice

from .nftwire import NotKnown, Refused, apply_messages, compile_script

# A transaction of ten thousand services takes about 2 s here; past this something hangs.
TIMEOUT_S = 60.0
# How much of nft's complaint is kept: it quotes the whole line it dislikes.
_ERROR_BYTES = 600
# Elements per line of a script: nft quotes a whole line when it dislikes one element of it.
_ELEMENTS_PER_LINE = 200


class NftError(Exception):
    """nft is missing, or the kernel refused the transaction. The text is nft's."""


class Nft:
    """Applies scripts, one at a time."""

    def __init__(self, program: str = "nft") -> None:
        self._program = program
        self._turn = asyncio.Lock()
        self.transactions = 0
        self.messages = 0
        """How many of the transactions needed no process."""

    async def apply(self, script: str) -> None:
        """Carry out `script` as one transaction. Raises NftError; nothing has changed then."""
        async with self._turn:
            self.transactions += 1
            try:
                batch = compile_script(script)
            except NotKnown:
                await self._run(script.encode())
                return
            self.messages += 1
            try:
                # A thread: the kernel may have somebody else's transaction to finish first.
                await asyncio.to_thread(apply_messages, batch)
            except (OSError, Refused) as error:
                raise NftError(str(error)) from error

    async def _run(self, script: bytes) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                find(self._program), "-f", "-",
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise NftError(f"{self._program}: {error.strerror}") from error
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, errors = await process.communicate(script)
        except BaseException as error:
            if process.returncode is None:
                process.kill()
                await process.wait()
            if isinstance(error, TimeoutError):
                raise NftError(f"{self._program}: no answer in {TIMEOUT_S:.0f} s") from error
            raise
        if process.returncode:
            raise NftError(errors[:_ERROR_BYTES].decode(errors="replace").strip())


def apply_blocking(script: str, program: str = "nft") -> None:
    """As `Nft.apply`, for a worker thread."""
    try:
        done = subprocess.run(
            [find(program), "-f", "-"], input=script.encode(), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except OSError as error:
        raise NftError(f"{program}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise NftError(f"{program}: no answer in {TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise NftError(done.stderr[:_ERROR_BYTES].decode(errors="replace").strip())


def find(program: str) -> str:
    """Where the program is; users' PATH often lacks /usr/sbin."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin") or program


def element_lines(verb: str, table: str, name: str, elements: Iterable[str]) -> Iterator[str]:
    """Lines of a script that "add" to or "delete" from a set or map; `table` is with its family."""
    source = iter(elements)
    while batch := list(islice(source, _ELEMENTS_PER_LINE)):
        yield f"{verb} element {table} {name} {{ {', '.join(batch)} }}"


def remove_table(family: str, name: str) -> str:
    """Script that removes a table, whether it is there or not."""
    return f"add table {family} {name}\ndelete table {family} {name}\n"
