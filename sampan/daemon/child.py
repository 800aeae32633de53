"""What the processes of a cluster have in common: arguments, the status pipe, logs, signals."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sampan.paths import ClusterPaths, cluster_paths

from .supervise import REFUSED

PR_SET_PDEATHSIG = 1
GC_THRESHOLDS = (50_000, 20, 50)
SWITCH_S = 0.0005
"""How long one thread may keep the interpreter from another. The default of 5 ms would add up to
that to every commit, since the journal's thread has to get it back after each fsync."""


class Refused(Exception):
    """This part cannot start and trying again will not help; the text says what to do."""


class Child:
    """This process as its supervisor sees it."""

    def __init__(self, part: str, arguments: list[str]) -> None:
        parser = argparse.ArgumentParser(prog=f"sampan {part}")
        parser.add_argument("--name", required=True)
        parser.add_argument("--data", required=True, type=Path)
        parser.add_argument("--pipe", type=int, default=-1)
        parser.add_argument("--go", type=int, default=-1)
        parser.add_argument("--listen", default="")
        parser.add_argument("--server", default="")
        parser.add_argument("--token", default="")
        parser.add_argument("--ca-hash", default="")
        parser.add_argument("--node-name", default="")
        parser.add_argument("--carrier", default="")
        parser.add_argument("--number", type=int, default=1)
        options = parser.parse_args(arguments)
        self.options = options
        self.part = part
        paths = cluster_paths(options.name, options.data)
        self.paths: ClusterPaths = paths if options.number == 1 else paths.member(options.number)
        self._pipe: int = options.pipe
        self._go: int = options.go

    def say(self, **status: object) -> None:
        """Tell the supervisor; without one (a part run by hand), the log."""
        if self._pipe >= 0:
            with contextlib.suppress(OSError):
                os.write(self._pipe, json.dumps(status).encode() + b"\n")
        else:
            logging.getLogger("sampan").info("%s", status)

    def task_failed(self, name: str, error: Exception) -> None:
        """A supervised task failed and will be tried again: who waits for us should see why."""
        self.say(error=f"{name}: {error}")

    async def go(self) -> None:
        """Wait until the supervisor says that the API server listens."""
        if self._go < 0:
            return
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._go, ready.set)
        await ready.wait()
        loop.remove_reader(self._go)
        os.close(self._go)
        self._go = -1

    def refuse(self, error: Refused) -> int:
        """Say why, to whom it concerns; the exit code that means "do not try again"."""
        self.say(error=str(error))
        print(error, file=sys.stderr)
        return REFUSED

    def wait_to_go(self) -> None:
        """As `go`, before there is a loop."""
        if self._go >= 0:
            os.read(self._go, 1)
            os.close(self._go)
            self._go = -1

    def run(self, main: Callable[[], Awaitable[None]]) -> int:
        """Run `main` on uvloop until it returns or a signal cancels it; the exit code."""
        import uvloop

        sys.setswitchinterval(SWITCH_S)
        die_with_parent(self._pipe)
        begin_logging(self.part)
        try:
            uvloop.run(_until_signal(main))
        except Refused as error:
            return self.refuse(error)
        except Exception as error:
            logging.getLogger("sampan").exception("%s failed", self.part)
            self.say(error=str(error))
            return 1
        return 0


def settle_memory() -> None:
    """Once booted: what is loaded now stays for the life of the process and need not be searched
    for garbage again, and objects are trees of dicts with hardly any cycles among them. With
    Python's defaults the collector takes a third of the time of a write (measured)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def die_with_parent(pipe: int) -> None:
    """A part without its supervisor would be restarted by nobody: it ends too. One that has gone
    already, while this process was loading, reads its pipe no more."""
    if pipe < 0:
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if is_unread(pipe):
        raise SystemExit(1)


def is_unread(pipe: int) -> bool:
    """Whether nobody holds the other end any more."""
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))


async def _until_signal(main: Callable[[], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


class Logfmt(logging.Formatter):
    """One event a line: time, level, logger, message; newlines are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return (
            f"{stamp}.{int(record.msecs):03}Z level={record.levelname.lower()} "
            f"logger={record.name} msg={json.dumps(text, ensure_ascii=False)}"
        )


def begin_logging(part: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Logfmt())
    level = os.environ.get("SAMPAN_LOG_LEVEL", "INFO").upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
