"""The seccomp table, and the program made of it, run by a small BPF interpreter."""

from __future__ import annotations

import base64
import platform
import struct

import pytest

from sampan.runtime.filters import _library, default_filter
from sampan.runtime.seccomp import ALLOWED, default_profile

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
X86_64, I386 = 0xC000003E, 0x40000003


def test_table_has_no_doubles() -> None:
    assert len(ALLOWED) == len(set(ALLOWED))


def allowed(*capabilities: str) -> set[str]:
    """Every call some rule of the profile allows."""
    rules = default_profile(capabilities)["syscalls"]
    return {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}


def test_dangerous_calls_need_their_capability() -> None:
    plain = allowed()
    for name in ("mount", "bpf", "unshare", "setns", "reboot", "keyctl", "io_uring_setup"):
        assert name not in plain
    assert "mount" in allowed("CAP_SYS_ADMIN")
    assert "reboot" in allowed("CAP_SYS_BOOT")


def run(program: bytes, number: int, args: tuple[int, ...] = (), arch: int = X86_64) -> int:
    """Classic BPF as seccomp runs it: loads of the call's data, jumps, and a verdict."""
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=iIQ6Q", number, arch, 0, *padded)
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = value = 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:
            value = struct.unpack_from("=I", data, k)[0]
        elif op == 0x06:
            return k
        elif op == 0x05:
            at += k
        elif op == 0x54:
            value &= k
        else:
            test = {0x15: value == k, 0x25: value > k, 0x35: value >= k}[op]
            at += yes if test else no


@pytest.fixture(scope="module")
def program() -> bytes:
    if platform.machine() != "x86_64":
        pytest.skip("the call numbers below are of x86_64")
    assert _library() is not None, "libseccomp comes with crun"
    return base64.b64decode(default_filter(["CAP_CHOWN"]))


@pytest.mark.parametrize(
    ("number", "args", "verdict"),
    [
        (0, (), ALLOW),  # read
        (257, (), ALLOW),  # openat
        (165, (), ERRNO | EPERM),  # mount
        (425, (), ERRNO | EPERM),  # io_uring_setup
        (250, (), ERRNO | EPERM),  # keyctl
        (435, (), ERRNO | ENOSYS),  # clone3
        (9999, (), ERRNO | ENOSYS),  # newer than the profile
        (56, (0x11,), ALLOW),  # clone, as fork
        (56, (0x10000000,), ERRNO | EPERM),  # clone with CLONE_NEWUSER
        (41, (2,), ALLOW),  # socket AF_INET
        (41, (40,), ERRNO | EPERM),  # socket AF_VSOCK
        (135, (0,), ALLOW),  # personality PER_LINUX
        (135, (0x0040000,), ERRNO | EPERM),  # personality ADDR_NO_RANDOMIZE
        (135, (0xFFFFFFFF,), ALLOW),  # personality: only ask
        (0x40000000 | 165, (), ERRNO | EPERM),  # mount by x32
    ],
)
def test_verdicts(program: bytes, number: int, args: tuple[int, ...], verdict: int) -> None:
    assert run(program, number, args) == verdict


def test_other_architectures(program: bytes) -> None:
    assert run(program, 3, arch=I386) == ALLOW  # read
    assert run(program, 21, arch=I386) == ERRNO | EPERM  # mount
    # A machine that is not in the profile: libseccomp kills, as a wrong architecture.
    assert run(program, 0, arch=0xC00000B7) not in (ALLOW,)
