"""Certificates renew themselves while everything runs on.

One task per process: it sleeps until the first certificate is due, renews, and tells whoever uses
it. It wakes at least every `LONGEST_S`, because a machine that sleeps stops the timer but not the
calendar. A renewal that fails is logged and tried again after `RETRY_S`; a fifth of the lifetime is
left for that.

The control process signs its own (`pki.ensure`). A node that joined asks for both of its
certificates by CertificateSigningRequest, with a new key each time, as kubelet does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sampan.aio.clock import Clock
from sampan.api.errors import StatusError

from .config import write_private
from .pki import due_at

log = logging.getLogger("sampan.renewal")

LONGEST_S = 3600.0
RETRY_S = 60.0

Renew = Callable[[], Awaitable[float]]
"""Renews what is due; gives when the next one is, in seconds since the epoch."""


async def keep_renewed(renew: Renew, clock: Clock) -> None:
    """Call `renew` whenever something is due, for ever."""
    while True:
        try:
            due_s = await renew()
        except (OSError, ValueError, StatusError, TimeoutError) as error:
            log.error("certificates could not be renewed, trying again: %s", error)
            due_s = clock.now() + RETRY_S
        await clock.sleep(min(max(due_s - clock.now(), 1.0), LONGEST_S))


def due_of(path: Path) -> float:
    """When the certificate in `path` is due. Raises OSError and ValueError."""
    return due_at(x509.load_pem_x509_certificate(path.read_bytes()))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def write_pair(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, cert: bytes) -> None:
    """Replace a key and its certificate so that a crash between the two leaves a pair behind.

    The key waits beside the old one until its certificate is there; `settle_pair` ends what a
    crash interrupted.
    """
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    waiting = folder / f"{name}.key.next"
    write_private(waiting, pem)
    write_private(folder / f"{name}.crt", cert)
    waiting.rename(folder / f"{name}.key")


def settle_pair(folder: Path, name: str) -> None:
    """After a crash: take the waiting key if the certificate is its, else forget it."""
    waiting = folder / f"{name}.key.next"
    if not waiting.exists():
        return
    try:
        key = serialization.load_pem_private_key(waiting.read_bytes(), None)
        cert = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        fits = cert.public_key() == key.public_key()
    except (OSError, ValueError, InvalidKey):
        fits = False
    if fits:
        waiting.rename(folder / f"{name}.key")
    else:
        waiting.unlink()


class FolderWatch:
    """Tells when files of a folder change: one inotify descriptor, no task, no polling.

    Changes that come together (an editor's, a pair's) are told once, `SETTLE_S` after the first.
    """

    SETTLE_S = 0.2

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._changed = changed
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin. Raises OSError when there is no such folder or no watch to be had."""
        from sampan.linux import inotify

        self._fd = inotify.inotify_init()
        mask = (
            inotify.IN_CLOSE_WRITE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM | inotify.IN_DELETE
        )
        inotify.add_watch(self._fd, self._folder, mask)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        from sampan.linux.inotify import read_events

        # Files that begin with a dot are being written; the rename that ends that counts.
        names = [event.name for event in read_events(self._fd)]
        if self._timer is None and any(not name.startswith(".") for name in names):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.SETTLE_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._changed()

    def close(self) -> None:
        import os

        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
