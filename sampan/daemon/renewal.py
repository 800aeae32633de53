"""Certificates renew themselves while everything runs on.

One task per process: it sleeps until the first certificate is due, renews, and tells whoever uses
it. It wakes at least every `LONGEST_S`, because a machine that sleeps stops the timer but not the
calendar. A renewal that fails is logged and tried again after `RETRY_S`; a fifth of the lifetime is
left for that.

The control process signs its own (`pki.ensure`). A node that joined asks for both of its
certificates by CertificateSigningRequest, with a new key each time, as kubelet does.
"""

from __future__ import annotations

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
from .membership import LONGEST_S
from .pki import due_at

log = logging.getLogger("sampan.renewal")

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
