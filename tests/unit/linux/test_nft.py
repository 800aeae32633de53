"""Running nft: its complaints are ours, and a caller that goes away leaves no process behind."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sampan.linux.nft import Nft, NftError, apply_blocking, remove_table


def program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "nft"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def running(number: int) -> bool:
    return Path(f"/proc/{number}").exists()


async def test_the_script_goes_to_standard_input(tmp_path: Path) -> None:
    nft = Nft(program(tmp_path, f"cat > {tmp_path}/said; echo $* > {tmp_path}/arguments"))
    await nft.apply(remove_table("ip", "x"))
    assert (tmp_path / "said").read_text() == "add table ip x\ndelete table ip x\n"
    assert (tmp_path / "arguments").read_text() == "-f -\n"


async def test_its_complaint_is_the_error(tmp_path: Path) -> None:
    refusing = program(tmp_path, "cat > /dev/null; echo 'Error: no such chain' >&2; exit 1")
    with pytest.raises(NftError, match="no such chain"):
        await Nft(refusing).apply("x")
    with pytest.raises(NftError, match="no such chain"):
        apply_blocking("x", refusing)


async def test_a_program_that_is_missing_is_said() -> None:
    with pytest.raises(NftError, match="no-such-nft: No such file"):
        await Nft("no-such-nft").apply("x")
    with pytest.raises(NftError, match="no-such-nft: No such file"):
        apply_blocking("x", "no-such-nft")


async def test_one_at_a_time_and_none_left_behind_when_cancelled(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    nft = Nft(program(tmp_path, f"cat > /dev/null; echo $$ > {pipe}; exec cat {pipe}"))
    tasks = [asyncio.create_task(nft.apply(str(number))) for number in range(2)]
    number = int(await asyncio.to_thread(pipe.read_text))
    assert nft.transactions == 1
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not running(number)
